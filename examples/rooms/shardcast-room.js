// A member of a room: palava's messages, and one RTCPeerConnection for each other member. It can meet
// pages that use palava-client.
"use strict";

class Room {
  // { url, room, name, stream, iceServers }
  constructor(options) {
    this.options = options;
    this.peers = new Map();
    this.onpeer = this.onleft = this.onmessage = this.onstate = () => {};
    this.isOver = false;
    this.iceServers = options.iceServers || [];
    this.connect();
  }

  connect() {
    this.socket = new WebSocket(this.options.url);
    this.socket.onopen = () => {
      const status = { user_agent: Room.userAgent() };
      if (this.options.name) status.name = this.options.name;
      // With the token of before, a lost member comes back under its id.
      this.tell({ event: "join_room", room_id: this.options.room, status, resume_token: this.token });
    };
    this.socket.onmessage = (message) => this.heard(JSON.parse(message.data));
    this.socket.onclose = (close) => {
      clearInterval(this.pings);
      this.peers.forEach((peer) => this.forget(peer));
      // 4200: the server ends; 4201: this member goes on elsewhere.
      if (this.isOver || close.code === 4201) return;
      this.onstate("connection lost, trying again");
      setTimeout(() => this.connect(), 1000 + 1000 * Math.random());
    };
    this.pings = setInterval(() => this.tell({ event: "ping" }), 20000);
  }

  tell(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  heard(message) {
    const peer = this.peers.get(message.sender_id);
    switch (message.event) {
      case "joined_room":
        this.id = message.own_id;
        this.token = message.resume_token;
        this.turn(message);
        this.onstate("joined");
        // Who is there offers to a newcomer that is Chrome; another one offers by itself.
        for (const { peer_id, status } of message.peers) {
          const other = this.meet(peer_id, status);
          if (Room.userAgent() !== "chrome") this.offer(other);
        }
        break;
      case "turn_credentials":
        this.turn(message);
        break;
      case "new_peer": {
        const other = this.meet(message.peer_id, message.status || {});
        if (other.status.user_agent === "chrome") this.offer(other);
        break;
      }
      case "peer_left":
        if (peer) this.forget(peer);
        break;
      case "peer_updated_status":
        if (peer) {
          Object.assign(peer.status, message.status);
          this.onpeer(peer);
        }
        break;
      case "offer":
        if (peer) this.answer(peer, message.sdp);
        break;
      case "answer":
        if (peer) peer.connection.setRemoteDescription(message.sdp);
        break;
      case "ice_candidate":
        if (peer && message.candidate) {
          peer.connection.addIceCandidate({
            candidate: message.candidate,
            sdpMid: message.sdpmid,
            sdpMLineIndex: message.sdpmlineindex,
          });
        }
        break;
      case "message":
        if (peer) this.onmessage(peer, message.data);
        break;
      case "shutdown":
        this.onstate("the server ends in " + message.seconds + " s");
        break;
      case "error":
        this.onstate(message.description);
        break;
    }
  }

  turn(message) {
    if (!message.turn_user) return;
    for (const server of this.iceServers) {
      if (String(server.urls).startsWith("turn")) {
        server.username = message.turn_user;
        server.credential = message.turn_password;
      }
    }
    this.peers.forEach((peer) => peer.connection.setConfiguration({ iceServers: this.iceServers }));
  }

  meet(id, status) {
    const connection = new RTCPeerConnection({ iceServers: this.iceServers });
    const peer = { id, status, connection, stream: null, channel: null };
    this.peers.set(id, peer);
    for (const track of this.options.stream.getTracks()) connection.addTrack(track, this.options.stream);
    connection.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      this.toPeer(peer, {
        event: "ice_candidate",
        candidate: candidate.candidate,
        sdpmid: candidate.sdpMid,
        sdpmlineindex: candidate.sdpMLineIndex,
      });
    };
    connection.ontrack = ({ streams }) => {
      peer.stream = streams[0];
      this.onpeer(peer);
    };
    connection.ondatachannel = ({ channel }) => this.talk(peer, channel);
    this.onpeer(peer);
    return peer;
  }

  talk(peer, channel) {
    peer.channel = channel;
    channel.onmessage = ({ data }) => this.onmessage(peer, data);
  }

  async offer(peer) {
    this.talk(peer, peer.connection.createDataChannel("chat"));
    await peer.connection.setLocalDescription(await peer.connection.createOffer());
    this.toPeer(peer, { event: "offer", sdp: peer.connection.localDescription });
  }

  async answer(peer, sdp) {
    await peer.connection.setRemoteDescription(sdp);
    await peer.connection.setLocalDescription(await peer.connection.createAnswer());
    this.toPeer(peer, { event: "answer", sdp: peer.connection.localDescription });
  }

  toPeer(peer, data) {
    this.tell({ event: "send_to_peer", peer_id: peer.id, data });
  }

  // To all, directly where there is a data channel.
  send(text) {
    for (const peer of this.peers.values()) {
      if (peer.channel && peer.channel.readyState === "open") peer.channel.send(text);
      else this.toPeer(peer, { event: "message", data: text });
    }
  }

  rename(name) {
    this.options.name = name;
    this.tell({ event: "update_status", status: { name, user_agent: Room.userAgent() } });
  }

  leave() {
    this.isOver = true;
    this.tell({ event: "leave_room" });
    this.peers.forEach((peer) => this.forget(peer));
    this.socket.close();
  }

  forget(peer) {
    peer.connection.close();
    this.peers.delete(peer.id);
    this.onleft(peer);
  }

  static userAgent() {
    const agent = navigator.userAgent;
    if (agent.includes("Firefox")) return "firefox";
    if (agent.includes("Chrome")) return "chrome";
    return agent.includes("Safari") ? "safari" : "unknown";
  }
}

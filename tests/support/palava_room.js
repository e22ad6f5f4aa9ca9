// A member made of palava-client; what it sees is kept in `seen`. Stands behind palava.bundle.js.
"use strict";

window.seen = { events: [], messages: [], channel: [], errors: [], names: [] };

window.start = (address, roomId, name) => {
  const session = new palava.Session({
    roomId,
    webSocketAddress: address,
    stun: "stun:127.0.0.1:3478",
    identity: new palava.Identity({ name, userMediaConfig: { audio: true, video: true } }),
    dataChannels: { chat: { ordered: true } },
    joinTimeout: 3000,
  });
  window.session = session;
  for (const name of [
    "room_joined", "room_join_error", "room_full", "peer_joined", "peer_stream_ready", "peer_left",
    "peer_connection_established", "signaling_shutdown", "signaling_error", "signaling_close",
  ]) {
    session.on(name, () => seen.events.push(name));
  }
  session.on("signaling_error", (kind, error) => seen.errors.push([kind, String(error)]));
  session.on("peer_update", (peer) => seen.names.push(peer.status.name));
  session.on("peer_stream_ready", (peer) => {
    const video = document.createElement("video");
    video.muted = true;
    video.autoplay = true;
    video.srcObject = peer.getStream();
    document.body.append(video);
  });
  session.on("peer_joined", (peer) => peer.on("message", (data) => seen.messages.push(data)));
  session.on("peer_channel_ready", (peer, label, channel) => {
    window.channel = channel;
    channel.on("message", (data) => seen.channel.push(data));
  });
  session.connect({});
};

window.count = (name) => seen.events.filter((event) => event === name).length;
window.others = () => session.getRoom().getRemotePeers();
// Pictures of the others that were decoded, looked at by and by.
window.decoded = 0;
setInterval(async () => {
  if (!window.session) return;
  let frames = 0;
  for (const peer of others()) {
    for (const stats of (await peer.peerConnection.getStats()).values()) {
      if (stats.type === "inbound-rtp" && stats.kind === "video") frames += stats.framesDecoded || 0;
    }
  }
  decoded = Math.max(decoded, frames);
}, 200);

// Messages of a shardcast server, over one WebSocket that comes back by itself.
//
//   const push = new ShardcastPush("wss://media.example/push", token, {
//     message: (m) => …,   // { channel: 10, id: "…", message: … } or { user: 5, … }
//     gap: (g) => …,       // something may be lost: ask your application for the state
//     state: (s) => …,     // "open", "lost" (will come back), "refused" (will not), "closed"
//     error: (e) => …,     // a message of ours was not passed on: { error: "not_member", … }
//   });
//   push.send(10, "hello");
//
// `token` is the session, or a function that fetches a fresh one (a promise will do).
class ShardcastPush {
  constructor(url, token, on) {
    Object.assign(this, { url, token, on, wait: 500 });
    this.open();
  }

  async open() {
    try {
      const url = new URL(this.url);
      const token = typeof this.token === "function" ? await this.token() : this.token;
      url.searchParams.set("session", token);
      if (this.since) url.searchParams.set("since", this.since);
      if (this.closed) return;
      const socket = (this.socket = new WebSocket(url));
      socket.onopen = () => { this.wait = 500; this.alive(); this.tell("state", "open"); };
      socket.onmessage = (event) => { this.alive(); this.take(JSON.parse(event.data)); };
      socket.onclose = (event) => this.lost(event.code);
    } catch (error) {
      this.lost();
    }
  }

  take(said) {
    if (said.id) this.since = said.id;
    if ("message" in said) this.tell("message", said);
    else if (said.gap) this.tell("gap", said);
    else if (said.error) this.tell("error", said);
  }

  // A silent line is asked after 25 s and given up 10 s later.
  alive() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.socket.send('{"ping":1}');
      this.timer = setTimeout(() => this.drop(), 10000);
    }, 25000);
  }

  drop() {
    this.socket.onclose = null;
    this.socket.close();
    this.lost();
  }

  lost(code) {
    clearTimeout(this.timer);
    const state = this.closed ? "closed" : code === 4403 ? "refused" : "lost";
    this.tell("state", state);
    if (state !== "lost") return;
    setTimeout(() => this.closed || this.open(), this.wait * (0.5 + Math.random()));
    this.wait = Math.min(this.wait * 2, 30000);
  }

  send(channel, message) { this.socket.send(JSON.stringify({ channel, message })); }

  close() { this.closed = true; if (this.socket) this.socket.close(); }

  tell(what, value) { if (this.on[what]) this.on[what](value); }
}

// Messages of a shardcast server over a WebSocket that comes back by itself; see docs/push.md.
class ShardcastPush {
  constructor(url, token, on) {
    Object.assign(this, { url, token, on, wait: 500 });
    this.open();
  }

  async open() {
    try {
      const url = new URL(this.url), { token } = this;
      url.searchParams.set("session", typeof token === "function" ? await token() : token);
      if (this.since) url.searchParams.set("since", this.since);
      if (this.closed) return;
      const socket = (this.socket = new WebSocket(url));
      socket.onopen = () => { this.wait = 500; this.alive(); this.tell("state", "open"); };
      socket.onmessage = (event) => { this.alive(); this.take(JSON.parse(event.data)); };
      socket.onclose = (event) => this.lost(event.code);
    } catch {
      this.lost();
    }
  }

  take(said) {
    if (said.id) this.since = said.id;
    const kind = ["message", "gap", "error"].find((key) => key in said);
    if (kind) this.tell(kind, said);
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

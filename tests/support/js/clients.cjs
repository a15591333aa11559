// Chat clients on the official socket.io-client, driven by a test: commands come as JSON lines on stdin, and every
// thing that happens to a client goes out as a JSON line on stdout.
//
// Each client does what PROTOCOL asks of one: a fresh token at each connect (asked of the test), `auth.resume` with its
// cursors, pages after an incomplete replay or a resync, and repeats of unacked sends under the same id.

"use strict";

const readline = require("node:readline");
const { io } = require("socket.io-client");

const clients = new Map();
const tokensAsked = new Map();
let asked = 0;

let untold = ""; // what goes out with the next turn of the event loop: a write for each line would be a third of this process's work

function tell(kind, client, more) {
  if (!untold) setImmediate(flush);
  untold += JSON.stringify({ kind, client, at: Date.now(), ...more }) + "\n";
}

function flush() {
  process.stdout.write(untold);
  untold = "";
}

class Client {
  constructor({ client, urls, options }) {
    this.name = client;
    this.urls = urls;
    this.url = 0;
    this.cursors = {};
    this.paging = new Map(); // room -> live events held back until its pages are there
    this.said = new Map(); // id -> when it was said, of what `talk` says
    this.unsent = []; // sends without an ack: [{room, id, text}]
    this.session = null;
    this.welcomed = false;
    this.expiresAt = 0;
    this.socket = io(urls[0], { forceNew: true, ...options, auth: (give) => this.auth(give) });
    this.socket.on("connect", () =>
      tell("connect", this.name, { url: this.urls[this.url], transport: this.socket.io.engine.transport.name }),
    );
    this.socket.io.on("open", () =>
      this.socket.io.engine.on("upgrade", (transport) => tell("upgrade", this.name, { transport: transport.name })),
    );
    this.socket.on("disconnect", (reason) => {
      this.welcomed = false;
      this.paging.clear();
      tell("disconnect", this.name, { reason, active: this.socket.active });
    });
    this.socket.on("connect_error", (error) =>
      tell("connect_error", this.name, { message: error.message, data: error.data ?? null, active: this.socket.active }),
    );
    // another node the next time: what a load balancer in front of the cluster would do
    this.socket.io.on("reconnect_attempt", () => {
      this.url = (this.url + 1) % this.urls.length;
      this.socket.io.uri = this.urls[this.url];
    });
    this.socket.onAny((event, payload) => this.hear(event, payload));
  }

  async auth(give) {
    const token = await new Promise((resolve) => {
      asked += 1;
      tokensAsked.set(asked, resolve);
      tell("token", this.name, { ask: asked });
    });
    give(this.session ? { token, resume: { session: this.session, cursors: this.cursors } } : { token });
  }

  hear(event, payload) {
    if (event === "welcome") {
      this.session = payload.session;
      this.expiresAt = payload.expires_at;
      tell("told", this.name, { event, payload });
      for (const room of payload.rooms) this.cursors[room.room] ??= room.seq;
      this.welcomed = true;
      for (const send of this.unsent) this.emitSend(send);
    } else if (event === "replay") {
      tell("told", this.name, { event, payload: { ...payload, events: payload.events.length } });
      for (const { event: name, ...rest } of payload.events) this.see(name, rest, "replay");
      if (!payload.complete) this.page(payload.room);
    } else if (event === "resync") {
      tell("told", this.name, { event, payload });
      this.page(payload.room);
    } else if (payload && payload.seq !== undefined && event !== "read") {
      const held = this.paging.get(payload.room);
      if (held) held.push([event, payload]);
      else this.see(event, payload, "live");
    } else {
      tell("told", this.name, { event, payload });
    }
  }

  see(event, payload, way) {
    tell("seen", this.name, { event, payload, way, expires_at: this.expiresAt });
    this.cursors[payload.room] = payload.seq;
  }

  page(room) {
    if (!this.paging.has(room)) this.paging.set(room, []);
    const session = this.session;
    this.socket.emit("replay", { room, after: this.cursors[room] }, (answer) => {
      if (!this.welcomed || this.session !== session) return;
      if (!answer.ok) return void tell("answer", this.name, { ref: null, event: "replay", answer });
      for (const { event, ...rest } of answer.events) this.see(event, rest, "page");
      if (!answer.complete) return void this.page(room);
      const held = this.paging.get(room);
      this.paging.delete(room);
      // what came live while the pages were fetched may be in them too
      for (const [event, payload] of held) if (payload.seq > this.cursors[room]) this.see(event, payload, "live");
    });
  }

  send(room, prefix, count) {
    for (let n = 0; n < count; n++) {
      const send = { room, id: `${prefix}-${n}`, text: `${prefix} says ${n}` };
      this.unsent.push(send);
      if (this.welcomed) this.emitSend(send);
    }
  }

  // A message every so many ms, as long as no more than `most` wait for their ack: who is not heard does not go on talking.
  talk(room, prefix, every, most) {
    this.spoken = 0;
    const began = performance.now();
    let turns = 0; // by the clock: an interval of Node's drifts by a millisecond each time
    const turn = () => {
      turns = Math.max(turns + 1, Math.floor((performance.now() - began) / every));
      this.talking = setTimeout(turn, began + (turns + 1) * every - performance.now());
      if (this.unsent.length >= most) return;
      const send = { room, id: `${prefix}-${this.spoken}`, text: `${prefix} says ${this.spoken}` };
      this.said.set(send.id, Date.now());
      this.spoken += 1;
      this.unsent.push(send);
      if (this.welcomed) this.emitSend(send);
    };
    turn();
  }

  hush() {
    clearTimeout(this.talking);
    tell("hushed", this.name, { spoken: this.spoken });
  }

  emitSend(send) {
    const session = this.session;
    const began = Date.now();
    this.socket.emit("message:send", send, (answer) => {
      if (!answer.ok) tell("delayed", this.name, { code: answer.error.code, after_ms: Date.now() - began });
      if (!this.unsent.includes(send)) return;
      if (answer.ok) {
        this.unsent.splice(this.unsent.indexOf(send), 1);
        const more = this.said.has(send.id) ? { after_ms: Date.now() - this.said.get(send.id) } : {};
        this.said.delete(send.id);
        tell("acked", this.name, { room: send.room, id: send.id, seq: answer.seq, duplicate: answer.duplicate ?? false, ...more });
      } else if (answer.error.code === "rate_limited" || answer.error.code === "unavailable") {
        setTimeout(() => this.session === session && this.welcomed && this.emitSend(send), answer.error.retry_after ?? 200);
      } else {
        tell("refused", this.name, { id: send.id, error: answer.error });
      }
    });
  }

  ask(ref, event, payload) {
    this.socket.emit(event, payload, (answer) => {
      if (event === "auth:refresh" && answer.ok) this.expiresAt = answer.expires_at;
      if (event === "room:join" && answer.ok) this.cursors[payload.room] ??= answer.seq;
      tell("answer", this.name, { ref, event, answer });
    });
  }
}

const commands = {
  open: (command) => clients.set(command.client, new Client(command)),
  send: ({ client, room, prefix, count }) => clients.get(client).send(room, prefix, count),
  talk: ({ client, room, prefix, every, most }) => clients.get(client).talk(room, prefix, every, most),
  hush: ({ client }) => clients.get(client).hush(),
  ask: ({ client, ref, event, payload }) => clients.get(client).ask(ref, event, payload),
  close: ({ client }) => clients.get(client).socket.disconnect(),
  token: ({ ask, token }) => {
    tokensAsked.get(ask)(token);
    tokensAsked.delete(ask);
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on("close", () => process.exit(0));

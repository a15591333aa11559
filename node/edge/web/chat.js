/** What this tab knows and can do: the state behind the page, and the commands that change it. */

import { connect, newId } from "../tidegate.js";
import { Journal } from "./journal.js";
import { directName } from "./names.js";
import { Room } from "./room.js";
import { explain, plural, tokenWanted } from "./words.js";

const PAGE = 50;
const COUNTED_ROOMS = 30; // unread messages are counted for so many rooms; the others show that there are some
const TYPING_EVERY = 3_000;
/** What the page says while messages wait for the log. */
export const HELD = "Messages are waiting: the log is away";

export class Chat {
  /** @type {Map<string, Room>} */
  rooms = new Map();
  invitations = new Map(); // room -> who invited
  current = null; // the open room's name
  link = { state: "connecting", node: null, url: null, expires_at: null, issued: null };
  signIn = null; // in words, why another token is needed; or null
  said = ""; // for screen readers
  held = false; // messages wait for the log
  notice = null; // an error to show for a moment
  target = null; // {seq} of a message to jump to
  atEnd = true; // whether the end of the open room is in view
  #listeners = new Set();
  #typedAt = 0;
  #readTimer = null;
  #refused = false; // the token, for good

  /** @param {{nodes: import("./nodes.js").Nodes, getToken: Function, renew: boolean}} options */
  constructor({ nodes, getToken, renew }) {
    this.nodes = nodes;
    this.journal = new Journal((url) => nodes.nameOf(url));
    this.tide = connect({ urls: nodes.urls, getToken, renew });
    this.tide.on("status", (status) => this.#status(status));
    this.tide.on("event", (event, { replayed }) => this.#event(event, replayed));
  }

  get me() {
    return this.tide.user;
  }

  get room() {
    return this.rooms.get(this.current);
  }

  get unread() {
    const seen = (room) => room.name === this.current && !document.hidden;
    return [...this.rooms.values()].reduce((sum, room) => sum + (seen(room) ? 0 : room.unread.length), 0);
  }

  /** Call `listener` after every change; returns how to stop it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed() {
    for (const listener of this.#listeners) listener();
  }

  close() {
    clearTimeout(this.#readTimer);
    this.tide.close();
  }

  // What comes

  #status(status) {
    if (status.state === "connected") this.nodes.learn(status.url, status.node);
    const aloud = this.journal.take(status);
    if (aloud !== null) this.said = aloud;
    if (status.state === "connected") this.#connected(status);
    if (status.state === "renewed") Object.assign(this.link, { expires_at: status.expires_at, issued: this.tide.now() });
    if (status.state === "sign-in") this.signIn = tokenWanted(status, this.#refused);
    if (status.state === "refused") this.#refused = true;
    if (status.state === "held" || status.state === "flowing") this.#hold(status.state === "held");
    if (status.state === "reset") this.#reload(status.room);
    if (!["renewed", "caught-up", "reset", "held", "flowing"].includes(status.state) && !status.open) this.link.state = status.state;
    this.changed();
  }

  #hold(held) {
    this.held = held;
    this.said = held ? HELD : "Messages go again";
  }

  #connected({ node, url, session, expires_at, rooms }) {
    this.link = { state: "connected", node, url, session, expires_at, issued: this.tide.now() };
    this.signIn = null;
    this.#refused = false;
    const names = new Set(rooms.map(({ room }) => room));
    for (const name of this.rooms.keys()) if (!names.has(name)) this.#drop(name);
    for (const room of rooms) this.#know(room);
    if (this.current === null && rooms.length > 0 && !narrow()) this.open([...names].sort()[0]);
    else if (this.room) this.#present(this.room);
    this.#invited();
    this.#count();
  }

  #know(given) {
    const known = this.rooms.get(given.room);
    if (known === undefined) this.rooms.set(given.room, new Room(given));
    else {
      Object.assign(known, { title: given.title, kind: given.kind, role: given.role });
      known.markRead(given.read);
    }
    this.invitations.delete(given.room);
  }

  /** Count what is unread, room by room; what comes meanwhile counts itself. */
  async #count() {
    const behind = [...this.rooms.values()].filter((room) => room.seq > room.read && !room.counted);
    for (const room of behind) room.counted = true;
    for (const room of behind.slice(0, COUNTED_ROOMS)) {
      try {
        const { messages, more } = await this.tide.request("history", { room: room.name, after: room.read, limit: 100 });
        const seqs = messages.filter(({ from, deleted, seq }) => from !== this.me && !deleted && seq > room.read).map(({ seq }) => seq);
        room.unread = [...new Set([...seqs, ...room.unread])].sort((a, b) => a - b);
        room.unreadMore = more;
      } catch {
        room.counted = false; // with the next connection
      }
      this.changed();
    }
  }

  /** The rooms that someone has invited us to. */
  async #invited() {
    try {
      const { rooms } = await this.tide.request("room:list", { limit: 100 });
      for (const { room, title, invited } of rooms) if (invited) this.invitations.set(room, { title });
      this.changed();
    } catch (error) {
      if (error.code !== "lost") this.fail(error);
    }
  }

  #event(event, replayed) {
    if (event.event === "presence") {
      for (const room of this.rooms.values()) room.setOnline(event.user, event.online);
      return this.changed();
    }
    const { me } = this;
    const invited = event.event === "room" && !this.rooms.has(event.room) && event.by !== me && event.kind !== "direct";
    if (invited) this.invitations.set(event.room, { title: event.title, by: event.by });
    else if (event.event === "left" && event.user === me) this.#gone(event);
    else {
      if (!this.rooms.has(event.room)) this.#enter(event);
      const room = this.rooms.get(event.room);
      room?.apply(event, me);
      if (this.current !== event.room || this.atEnd) room?.timeline.trim();
      this.#announce(event, replayed);
    }
    return this.changed();
  }

  /** A room that is new to us: made or joined here, in another tab, or by who wants to talk to us. */
  #enter({ event, room, title = "", kind = "public", by, seq }) {
    if (event !== "room" && event !== "joined") return;
    this.#know({ room, title, kind, role: event === "room" && by === this.me ? "owner" : "member", seq, read: seq - 1 });
    this.rooms.get(room).counted = true;
  }

  #gone({ room, by }) {
    if (by !== undefined && by !== this.me) this.say(`${by} put you out of ${room}`);
    this.#drop(room);
  }

  #drop(name) {
    this.rooms.delete(name);
    this.invitations.delete(name);
    if (this.current === name) this.current = null;
  }

  #announce({ event, room, from, text }, replayed) {
    if (event !== "message" || from === this.me || replayed) return;
    if (room === this.current) this.said = `${from}: ${text}`;
    this.#readSoon();
  }

  #reload(name) {
    const room = this.rooms.get(name);
    if (room === undefined) return;
    this.rooms.set(name, new Room({ room: name, title: room.title, kind: room.kind, role: room.role, seq: 0 }));
    if (this.current === name) this.open(name);
  }

  // Rooms

  /** Show a room. */
  open(name) {
    const room = this.rooms.get(name);
    if (room === undefined) return;
    if (this.current !== name) {
      this.#read(); // what was in view until now
      room.divider = room.unread[0] ?? null;
    }
    this.current = name;
    this.target = null;
    this.#present(room);
    this.#readSoon();
    this.changed();
  }

  leavePane() {
    this.#read();
    this.current = null;
    this.changed();
  }

  async #present(room) {
    if (!room.timeline.loaded) await this.latest(room);
    await this.#try(async () => {
      const { members } = await this.tide.request("room:members", { room: room.name });
      room.members = members;
    });
  }

  /** Show the present of a room. */
  latest(room) {
    return this.#page(room, {}, "only");
  }

  older(room) {
    const { lines, hasOlder } = room.timeline;
    return hasOlder && lines.length > 0 ? this.#page(room, { before: lines[0].seq }, "older") : undefined;
  }

  newer(room) {
    const { lines, hasNewer } = room.timeline;
    return hasNewer && lines.length > 0 ? this.#page(room, { after: lines.at(-1).seq }, "newer") : undefined;
  }

  async #page(room, where, end) {
    if (room.loading) return;
    room.loading = true;
    this.changed();
    await this.#try(async () => {
      const { messages, more } = await this.tide.request("history", { room: room.name, ...where, limit: PAGE });
      room.timeline.page(messages, more, end);
    });
    room.loading = false;
    this.changed();
  }

  /** Show a message of the past amid what was said around it. */
  async jump(name, seq) {
    this.open(name);
    const room = this.rooms.get(name);
    if (room === undefined) return;
    if (!room.timeline.lines.some((line) => line.seq === seq)) {
      await this.#try(async () => {
        const ask = (where) => this.tide.request("history", { room: name, ...where, limit: PAGE / 2 });
        room.timeline.middle(await ask({ before: seq + 1 }), await ask({ after: seq }));
      });
    }
    this.target = { seq };
    this.changed();
  }

  async create({ room, title, kind }) {
    const { seq } = await this.tide.request("room:create", { room, title: title || undefined, kind });
    if (!this.rooms.has(room)) this.#know({ room, title, kind, role: "owner", seq, read: seq });
    this.open(room);
  }

  async join(room) {
    const { seq } = await this.tide.request("room:join", { room });
    if (!this.rooms.has(room)) this.#know({ room, seq, read: seq });
    await this.#describe(room);
    this.open(room);
  }

  /** `joined` does not say what a room is called. */
  async #describe(name) {
    const { rooms } = await this.tide.request("room:list", { query: name, limit: 100 });
    const found = rooms.find(({ room }) => room === name);
    if (found) this.#know(found);
  }

  leave(room) {
    return this.#try(() => this.tide.request("room:leave", { room }));
  }

  /** Open the direct room with someone, and make it if there is none. */
  async direct(user) {
    const pair = [this.me, user].sort();
    const room = directName(pair);
    if (!this.rooms.has(room)) {
      await this.#try(() => this.tide.request("room:create", { room, title: pair.join(", "), kind: "direct", with: [user] }));
    }
    this.open(room);
  }

  async listed(query) {
    const { rooms } = await this.tide.request("room:list", { query: query || undefined, limit: 50 });
    return rooms;
  }

  async search(query, room) {
    const { messages } = await this.tide.request("search", { query, room, limit: 50 });
    return messages;
  }

  /** `room:invite`, `room:kick` or `room:role`. */
  async manage(command, fields) {
    const done = await this.#try(() => this.tide.request(command, fields));
    if (done && command === "room:invite") this.say(`${fields.user} is invited`);
  }

  // Messages

  async send(room, text, reply) {
    const id = newId(this.tide.now());
    const line = { id, text, at: this.tide.now(), reply_to: reply?.id };
    if (room.timeline.hasNewer) await this.latest(room);
    room.pending.push(line);
    room.divider = null;
    this.#typedAt = 0;
    this.changed();
    await this.#deliver(room, line);
  }

  async again(room, line) {
    line.error = undefined;
    this.changed();
    await this.#deliver(room, line);
  }

  discard(room, line) {
    room.pending = room.pending.filter((one) => one !== line);
    this.changed();
  }

  async #deliver(room, line) {
    try {
      const { id, text, reply_to } = line;
      const { seq, at } = await this.tide.send({ room: room.name, id, text, reply_to });
      room.apply({ event: "message", room: room.name, seq, id, from: this.me, text, at, reply_to }, this.me);
    } catch (error) {
      line.error = explain(error);
    }
    this.changed();
  }

  edit(room, line, text) {
    return this.#try(() => this.tide.request("message:edit", { ...named(room, line), text }));
  }

  remove(room, line) {
    return this.#try(() => this.tide.request("message:delete", named(room, line)));
  }

  react(room, line, emoji) {
    const on = !(line.reactions[emoji] ?? []).includes(this.me);
    return this.#try(() => this.tide.request("message:react", { ...named(room, line), emoji, on }));
  }

  /** Tell the others that someone writes here, or no longer does. */
  typing(room, on) {
    const now = Date.now();
    if (!this.tide.connected || (on ? now - this.#typedAt < TYPING_EVERY : this.#typedAt === 0)) return;
    this.#typedAt = on ? now : 0;
    this.tide.request("typing", { room: room.name, on }).catch(() => {}); // the next key says it again
  }

  /** Whether the end of the open room is in view: if so, everything in it is read after a moment. */
  seen(atEnd) {
    this.atEnd = atEnd;
    if (atEnd) this.#readSoon();
  }

  #readSoon() {
    this.#readTimer ??= setTimeout(() => this.#read(), 300);
  }

  #read() {
    clearTimeout(this.#readTimer);
    this.#readTimer = null;
    const { room } = this;
    if (!room || !this.atEnd || document.hidden || !this.tide.connected || room.timeline.hasNewer) return;
    const seq = Math.max(room.seq, room.timeline.last()?.seq ?? 0);
    if (seq <= room.read) return;
    room.markRead(seq);
    const again = () => (room.read = Math.min(room.read, seq - 1)); // the next look says it again
    this.tide.request("read", { room: room.name, seq }).catch(again);
    this.changed();
  }

  // Saying things

  async #try(act) {
    try {
      await act();
      return true;
    } catch (error) {
      this.fail(error);
      return false;
    } finally {
      this.changed();
    }
  }

  fail(error) {
    this.say(explain(error), "bad");
  }

  say(text, tone = "calm") {
    this.notice = { text, tone, at: Date.now() };
    this.said = text;
    this.changed();
  }
}

/** A message as commands name it: with its `seq`, since another author's may have the same `id`. */
const named = (room, line) => ({ room: room.name, id: line.id, of: line.seq });

/** Whether there is room for one pane only. */
export const narrow = () => matchMedia("(max-width: 760px)").matches;

/** The tab's title. */
export const titleOf = (chat) => {
  const count = chat.unread;
  const where = chat.room ? `${chat.room.titleFor(chat.me)} · Tidegate` : "Tidegate";
  return count > 0 ? `(${count}) ${where}` : where;
};

/** What a room's badge says. */
export const badgeOf = (room) => ({
  text: room.unread.length > 99 ? "99+" : `${room.unread.length}${room.unreadMore ? "+" : ""}`,
  label: plural(room.unread.length, "unread message"),
});

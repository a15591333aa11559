/** One room as this tab knows it. */

import { Timeline } from "./timeline.js";

const TYPING_MS = 6_000; // who types says so every three seconds

export class Room {
  timeline = new Timeline();
  pending = []; // on their way: {id, text, at, reply_to, error?}
  unread = []; // seqs of messages of others
  unreadMore = false; // and more of them than were counted
  readBy = new Map(); // others, as far as they have said so in this tab's time
  typing = new Map(); // user -> until
  members = null; // [{user, role, online}], once asked
  draft = "";
  divider = null; // the seq behind which it was new when the room was opened
  loading = false;

  constructor({ room, title, kind, role = "member", seq = 0, read = 0 }) {
    Object.assign(this, { name: room, title, kind, role, seq, read });
  }

  /** A direct room is called after the others in it. */
  titleFor(me) {
    if (this.kind !== "direct") return this.title || this.name;
    const others = (this.title || this.name).split(", ").filter((name) => name !== me);
    return others.join(", ") || this.title || this.name;
  }

  /** Fold an event in. */
  apply(event, me) {
    if (event.event === "read") return this.#read(event, me);
    if (event.event === "typing") return this.#types(event, me);
    this.seq = Math.max(this.seq, event.seq);
    this.timeline.apply(event);
    if (event.event === "message") {
      this.typing.delete(event.from);
      if (event.from === me) this.pending = this.pending.filter(({ id }) => id !== event.id);
      else if (event.seq > this.read) this.unread.push(event.seq);
    }
    if (event.event === "deleted") this.unread = this.unread.filter((seq) => seq !== event.of);
    if (event.event === "room") this.#changed(event, me);
    if (event.event === "joined" || event.event === "left") this.#moved(event, me);
    return undefined;
  }

  /** Everything up to `seq` has been read. */
  markRead(seq) {
    if (seq <= this.read) return;
    this.read = seq;
    this.unread = this.unread.filter((one) => one > seq);
    this.unreadMore = false;
  }

  /** Who types now. */
  typers(now) {
    return [...this.typing].filter(([, until]) => until > now).map(([user]) => user);
  }

  setOnline(user, online) {
    this.members = this.members?.map((one) => (one.user === user ? { ...one, online } : one)) ?? null;
  }

  #read({ user, seq }, me) {
    if (user === me) this.markRead(seq);
    else this.readBy.set(user, seq);
  }

  #types({ user, on }, me) {
    if (user === me) return;
    if (on) this.typing.set(user, Date.now() + TYPING_MS);
    else this.typing.delete(user);
  }

  #changed({ title, kind, change, user, role }, me) {
    this.title = title ?? this.title;
    this.kind = kind ?? this.kind;
    if (change === "role") this.#role(user, role, me);
  }

  #moved({ event, user, owner }, me) {
    const others = (this.members ?? []).filter((one) => one.user !== user);
    if (this.members !== null) this.members = event === "joined" ? [...others, { user, role: "member", online: true }] : others;
    if (owner !== undefined) this.#role(owner, "owner", me);
  }

  #role(user, role, me) {
    const before = (one) => (role === "owner" && one.role === "owner" ? "moderator" : one.role);
    this.members = this.members?.map((one) => ({ ...one, role: one.user === user ? role : before(one) })) ?? null;
    if (user === me) this.role = role;
    else if (role === "owner" && this.role === "owner") this.role = "moderator";
  }
}

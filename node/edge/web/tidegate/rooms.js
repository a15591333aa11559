/** Where each room is, and how what was missed is made up for: over every connection, one after the other. */

import { Backoff } from "./backoff.js";
import { adviceFor } from "./codes.js";
import { RoomOrder } from "./order.js";

export class Rooms {
  static REPLAY_GRACE = 3_000; // after a welcome, in milliseconds, before a client asks for what it was not sent

  /** @type {Map<string, RoomOrder>} */
  #orders = new Map();
  /** @type {Map<string, number> | null} events made up for since the welcome, by room; null once level */
  #missed = null;
  #expected = []; // the rooms of the welcome
  #connection = null; // an object of its own for each connection
  #filling = new Map();
  #me;

  /**
   * @param {object} ways
   * @param {(name: string, payload: object) => Promise<object>} ways.ask gives a command; rejects with a `CommandError`
   * @param {(event: object, replayed: boolean) => void} ways.deliver takes each event, once and in order in its room
   * @param {(missed: Record<string, number>) => void} ways.level is told once after each welcome: what had to be made up for
   * @param {Record<string, number>} [ways.cursors] where to begin
   * @param {() => number} [ways.random]
   */
  constructor({ ask, deliver, level, cursors = {}, random = Math.random }) {
    Object.assign(this, { ask, deliver, level, random });
    for (const [room, seq] of Object.entries(cursors)) this.#orders.set(room, new RoomOrder(seq));
  }

  /** The last seq that was handed out, by room. */
  get cursors() {
    return Object.fromEntries([...this.#orders].map(([room, { seq }]) => [room, seq]));
  }

  /**
   * A connection is there. A room that is new starts where it is now.
   *
   * @param {{user: string, rooms: {room: string, seq: number}[]}} welcome
   * @param {boolean} otherLog the cluster does not know who resumes: a room that has got less far than the cursor is another room
   * @returns {{room: string, seq: number}[]} the rooms that had to start over for that
   */
  welcomed({ user, rooms }, otherLog) {
    const resets = [];
    const connection = {};
    for (const { room, seq } of rooms) {
      const order = this.#orders.get(room);
      const over = otherLog && order !== undefined && seq < order.seq;
      if (order !== undefined && !over) order.expect(seq);
      else this.#orders.set(room, new RoomOrder(seq));
      if (over) resets.push({ room, seq });
    }
    this.#me = user;
    this.#missed = new Map();
    this.#expected = rooms.map(({ room }) => room);
    this.#connection = connection;
    setTimeout(() => this.#connection === connection && this.#behind().forEach((room) => this.fill(room)), Rooms.REPLAY_GRACE);
    return resets;
  }

  /** The connection is gone. */
  lost() {
    this.#connection = null;
  }

  /** Say `level`, if it is so and has not been said since the welcome. */
  settle() {
    if (this.#missed === null || this.#connection === null || this.#behind().length > 0) return;
    const missed = Object.fromEntries([...this.#missed].filter(([, count]) => count > 0));
    this.#missed = null;
    this.level(missed);
  }

  /** Take a live event that has a `seq`. */
  received(event) {
    const order = this.#orders.get(event.room);
    if (order === undefined) {
      if (begins(event, this.#me)) this.#orders.set(event.room, new RoomOrder(event.seq));
      return this.#hand(event, false);
    }
    for (const each of order.accept(event)) this.#hand(each, false);
    if (order.behind && this.#missed === null) this.fill(event.room); // before that, the server's replays are on their way
    return undefined;
  }

  /** Take a `replay` that the server sent by itself. */
  replayed({ room, after, to, complete, events }) {
    if (!this.#orders.has(room)) this.#orders.set(room, new RoomOrder(after));
    this.#make(room, { events, complete, to });
    if (!complete) this.fill(room);
    this.settle();
  }

  /** Ask for what is missing of a room, page by page, until it is level. Once at a time for each room and connection. */
  async fill(room) {
    const [order, connection] = [this.#orders.get(room), this.#connection];
    if (order === undefined || connection === null || this.#filling.get(room) === connection) return;
    this.#filling.set(room, connection);
    const pause = new Backoff({ first: 500, cap: 5_000, random: this.random });
    const ours = () => this.#connection === connection && this.#orders.get(room) === order;
    for (let complete = false; (!complete || order.behind) && ours(); ) {
      const to = order.known;
      try {
        const page = await this.ask("replay", { room, after: order.seq });
        complete = page.complete;
        if (ours()) this.#make(room, { ...page, to });
      } catch (error) {
        const wait = error.code !== "lost" && adviceFor(error.code, error.retryAfter) === "wait";
        if (!wait && error.code !== "lost" && error.code !== "token_expired" && ours()) this.#orders.delete(room); // not ours to read
        if (!wait) break;
        await new Promise((resolve) => setTimeout(resolve, pause.after(error.retryAfter ?? 0)));
      }
    }
    if (this.#filling.get(room) === connection) this.#filling.delete(room);
    if (this.#connection === connection) this.settle();
  }

  /** Hand out what a replay held, and what it lets go. */
  #make(room, replay) {
    const found = this.#orders.get(room).replayed(replay);
    this.#missed?.set(room, (this.#missed.get(room) ?? 0) + found.length);
    for (const event of found) this.#hand(event, true);
  }

  #hand(event, replayed) {
    const gone = event.event === "left" && event.user === this.#me;
    if (gone) this.#orders.delete(event.room); // a return starts anew, at its own `joined`
    this.deliver(event, replayed);
  }

  #behind() {
    return this.#expected.filter((room) => this.#orders.get(room)?.behind);
  }
}

/** Whether an event of a room that is new to us says that we are in it; an invitation and a kick do not. */
function begins({ event, user, by, kind, change }, me) {
  if (event === "left") return false;
  if (event === "room") return kind === "direct" || (change === "created" && by === me);
  return event !== "joined" || user === me;
}

/** Messages on their way: each is sent under an id of its own until the server has it, in order in each room. */

import { CommandError } from "./codes.js";

/** @typedef {{room: string, text: string, id: string, reply_to?: string}} Outgoing */
/** @typedef {{id: string, seq: number, at: number, duplicate?: boolean}} Sent */

/** Not carried out, or nobody knows: safe to send again under the same id. */
const AGAIN = new Set(["unavailable", "rate_limited", "timeout", "server_busy"]);
/** To be sent again over the next connection. */
const LATER = new Set(["lost", "token_expired"]);

export class Outbox {
  /** @type {Map<string, {message: Outgoing, resolve: (sent: Sent) => void, reject: (error: Error) => void}[]>} */
  #queues = new Map();
  #pumping = new Set();
  #connections = 0;
  #held = false;

  /**
   * @param {object} ways
   * @param {(message: Outgoing) => Promise<Sent>} ways.deliver rejects with a `CommandError`
   * @param {(attempt: number, hint?: number) => Promise<void>} ways.pause before the next try of one message
   * @param {(held: boolean) => void} [ways.hold] is told when messages begin to wait for the log, and when they do no more
   */
  constructor({ deliver, pause, hold = () => {} }) {
    Object.assign(this, { deliver, pause, hold });
  }

  /** How many messages are not known to be in the log. */
  get size() {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.length, 0);
  }

  /**
   * @param {Outgoing} message
   * @returns {Promise<Sent>} once it is in the log; rejects with a `CommandError` when it is refused for good
   */
  send(message) {
    return new Promise((resolve, reject) => {
      const queue = this.#queues.get(message.room) ?? [];
      this.#queues.set(message.room, queue);
      queue.push({ message, resolve, reject });
      this.#pump(message.room);
    });
  }

  /** There is a connection: send what waits. */
  flush() {
    this.#connections += 1;
    for (const room of this.#queues.keys()) this.#pump(room);
  }

  /** Nothing will be sent any more. */
  rejectAll(error) {
    const queues = [...this.#queues.values()];
    this.#queues.clear();
    this.#holds(false);
    for (const { reject } of queues.flat()) reject(error);
  }

  async #pump(room) {
    if (this.#pumping.has(room)) return;
    this.#pumping.add(room);
    let attempt = 0;
    for (let queue; (queue = this.#queues.get(room)) !== undefined; ) {
      const [next] = queue;
      const connection = this.#connections;
      const [sent, error] = await this.deliver(next.message).then(
        (answer) => [answer, null],
        (failure) => [null, failure],
      );
      if (error instanceof CommandError && LATER.has(error.code)) {
        if (connection === this.#connections) break;
        continue;
      }
      if (error?.code === "unavailable") this.#holds(true);
      if (error instanceof CommandError && AGAIN.has(error.code)) {
        await this.pause((attempt += 1), error.retryAfter);
        continue;
      }
      attempt = 0;
      if (queue[0] === next) queue.shift();
      if (queue.length === 0 && this.#queues.get(room) === queue) this.#queues.delete(room);
      if (error === null || this.size === 0) this.#holds(false);
      if (error === null) next.resolve(sent);
      else next.reject(error);
    }
    this.#pumping.delete(room);
  }

  #holds(held) {
    if (this.#held === held) return;
    this.#held = held;
    this.hold(held);
  }
}

/** An id that no one else makes: a time and 80 random bits, so that ids sort roughly by time. */
export function newId(now = Date.now()) {
  const random = crypto.getRandomValues(new Uint8Array(10));
  return `${now.toString(36)}-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

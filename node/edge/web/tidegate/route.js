/** Which node to try, and after how long. */

import { Backoff } from "./backoff.js";

/**
 * @typedef {object} End how an attempt or a connection ended
 * @property {string} code of the protocol, or `lost`, `timeout`, `moved`, `token_unavailable`: no node was asked
 * @property {number} [retryAfter] what the server asked for, in milliseconds
 * @property {boolean} [welcomed] whether it had been a connection
 * @property {number} [lasted] for how long, in milliseconds
 */

export class Route {
  static STEADY = 5_000; // a connection that lasted so long was a success: the next wait is short again

  #at = 0;
  #failures = 0; // of nodes, since the last connection
  #hint = 0; // the longest that a node of this round asked for

  /**
   * @param {string[]} urls the first is tried first, the others in an order of this client's own: else all who lose one node would meet
   *   on the next
   * @param {() => number} random in [0, 1)
   */
  constructor(urls, random = Math.random) {
    const [first, ...others] = [...new Set(urls.map(originOf))];
    this.urls = [first, ...shuffled(others, random)];
    this.random = random;
    this.backoff = new Backoff({ random });
  }

  get url() {
    return this.urls[this.#at];
  }

  /** How often every node has been asked in vain since the last connection. */
  get rounds() {
    return Math.floor(this.#failures / this.urls.length);
  }

  /** Go to this node next. */
  choose(url) {
    const origin = originOf(url);
    if (!this.urls.includes(origin)) this.urls.push(origin);
    this.#at = this.urls.indexOf(origin);
  }

  /**
   * Move on after an end; returns the wait in milliseconds before `url` is tried.
   *
   * A lost connection is tried again where it was. Where that fails, the other nodes follow at short distances, each once; then the waits
   * grow. A node that asked for time gets it: from its own clients when it drains, from all others once every node has been asked.
   *
   * @param {End} end
   */
  after({ code, retryAfter = 0, welcomed = false, lasted = 0 }) {
    if (code === "moved") return 0;
    if (lasted >= Route.STEADY) this.backoff.reset();
    if (welcomed) {
      [this.#failures, this.#hint] = [0, 0];
      if (code === "draining") this.#next();
      return this.backoff.after(retryAfter);
    }
    if (code === "token_unavailable" || code === "token_expired") return this.backoff.after(retryAfter);
    this.#next();
    this.#failures += 1;
    this.#hint = Math.max(this.#hint, retryAfter);
    if (this.#failures % this.urls.length !== 0) return 50 + this.random() * 250;
    const wait = this.backoff.after(this.#hint);
    this.#hint = 0;
    return wait;
  }

  #next() {
    this.#at = (this.#at + 1) % this.urls.length;
  }
}

function originOf(url) {
  return new URL(url, globalThis.location?.href).origin;
}

function shuffled(list, random) {
  const cards = [...list];
  for (let at = cards.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [cards[at], cards[other]] = [cards[other], cards[at]];
  }
  return cards;
}

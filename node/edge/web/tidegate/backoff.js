/** How long to wait before the next try: jitter that grows with each failure and is kept at the cap. */

export class Backoff {
  #previous = 0;

  /**
   * @param {object} [limits] all in milliseconds
   * @param {number} [limits.floor] no wait is shorter
   * @param {number} [limits.first] the first wait lies between `floor` and this
   * @param {number} [limits.cap] no wait is longer
   * @param {() => number} [limits.random] in [0, 1)
   */
  constructor({ floor = 100, first = 1_000, cap = 20_000, random = Math.random } = {}) {
    Object.assign(this, { floor, first, cap, random });
  }

  /**
   * The next wait: anywhere between `floor` and three times the one before. It is drawn from the whole range and never cut off at the
   * cap: a crowd whose waits were cut off there would knock together, time after time.
   */
  next() {
    const upper = Math.min(this.cap, Math.max(this.first, this.#previous * 3));
    this.#previous = this.floor + this.random() * (upper - this.floor);
    return this.#previous;
  }

  /** The next wait where the server has said how long: never earlier than it said, and spread over half as long again. */
  after(hint) {
    return Math.max(this.next(), hint * (1 + this.random() / 2));
  }

  /** Start over, after a success that lasted. */
  reset() {
    this.#previous = 0;
  }
}

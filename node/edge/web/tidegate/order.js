/** The events of one room, each once and in order, whatever order and however often they arrive. */

/** @typedef {{event: string, room: string, seq: number}} RoomEvent */

export class RoomOrder {
  /** Events kept while one before them is missing; what comes past that is fetched again with the missing one. */
  static MOST_HELD = 1_000;

  /** @type {Map<number, RoomEvent>} */
  #held = new Map();

  /** @param {number} seq the last event that counts as seen */
  constructor(seq) {
    this.seq = seq;
    /** The furthest that the room is known to be. */
    this.known = seq;
  }

  /** Whether something that exists has not been handed out. */
  get behind() {
    return this.known > this.seq;
  }

  /** The room is known to have got to `seq`. */
  expect(seq) {
    this.known = Math.max(this.known, seq);
  }

  /**
   * Take a live event.
   *
   * @param {RoomEvent} event
   * @returns {RoomEvent[]} what can be handed out now; empty for a repeat, and behind a gap
   */
  accept(event) {
    if (event.seq <= this.seq) return [];
    this.expect(event.seq);
    if (event.seq === this.seq + 1 || this.#held.size < RoomOrder.MOST_HELD) this.#held.set(event.seq, event);
    return this.#contiguous();
  }

  /**
   * Take what the server replayed from some point at or before `seq`. The server's word counts: where the replay is complete, a number
   * up to `to` that is neither in it nor held is one that this user was not meant to see, and is passed over.
   *
   * @param {{events: RoomEvent[], complete: boolean, to: number}} replay
   * @returns {RoomEvent[]} what can be handed out now
   */
  replayed({ events, complete, to }) {
    const found = [];
    for (const event of events) {
      if (event.seq <= this.seq) continue;
      found.push(event);
      this.seq = event.seq;
    }
    this.expect(this.seq);
    if (complete) {
      const held = [...this.#held.values()].filter(({ seq }) => seq > this.seq && seq <= to).sort((a, b) => a.seq - b.seq);
      found.push(...held);
      this.seq = Math.max(this.seq, to);
      this.expect(this.seq);
    }
    found.push(...this.#contiguous());
    return found;
  }

  #contiguous() {
    const found = [];
    for (let event; (event = this.#held.get(this.seq + 1)) !== undefined; this.seq = event.seq) found.push(event);
    for (const seq of this.#held.keys()) if (seq <= this.seq) this.#held.delete(seq);
    return found;
  }
}

/** What the cluster has told of itself, and the rates that follow from it. Pure: times are arguments, in ms of this browser's clock. */

/** Over how long a rate is taken. */
export const LATELY = 10_000;
const KEPT = 150_000;
const GRACE = 3_000; // each node tells where it stands at its own moment, once a second
const COUNTERS = ["handshakes", "handshake_codes", "renewals", "session_ends"];

export class Watch {
  /** The last `stats`, or null. */
  stats = null;
  /** When they came. */
  at = null;
  #began = null; // {at, clock}: of the first `stats`, by our clock and by the node's
  #known = new Map(); // node -> what it told of itself last
  #steps = []; // {at, counts: {counter: {name: risen}}}, the oldest first
  #heights = []; // {at, positions: {partition: the furthest that any node was}}, the oldest first

  /** @param {object} stats the event of `/admin` */
  take(stats, now) {
    const counts = Object.fromEntries(COUNTERS.map((counter) => [counter, {}]));
    for (const [name, state] of Object.entries(stats.nodes)) {
      const before = this.#before(name, state);
      if (before !== null) for (const counter of COUNTERS) add(counts[counter], risen(before[counter], state[counter]));
      this.#known.set(name, state);
    }
    this.#began ??= { at: now, clock: stats.at };
    this.#steps = [...this.#steps.filter(({ at }) => at > now - KEPT), { at: now, counts }];
    this.#heights = [...this.#heights.filter(({ at }) => at > now - 2 * GRACE), { at: now, positions: furthest(stats.nodes) }];
    [this.stats, this.at] = [stats, now];
  }

  /** What a node's counters are compared with; null where nobody knows. A process that is new has counted from nothing. */
  #before(name, state) {
    const known = this.#known.get(name);
    if (known !== undefined) return known.started_at === state.started_at ? known : {};
    return this.#began !== null && state.started_at > this.#began.clock ? {} : null;
  }

  /**
   * Every node that the cluster has heard of lately: {name, here: true, state}, or of one that is gone {name, here: false, silent, drained},
   * where `silent` is since when, in ms, and `drained` whether it has ended in order.
   */
  nodes(now) {
    const here = Object.entries(this.stats.nodes).map(([name, state]) => ({ name, here: true, state }));
    const gone = Object.entries(this.stats.gone ?? {}).map(([name, { silent_seconds: seconds, draining: drained }]) => ({
      ...{ name, here: false, drained },
      silent: seconds * 1_000 + now - this.at,
    }));
    return [...here, ...gone].sort((a, b) => a.name.localeCompare(b.name));
  }

  /** How often a second lately, by name. @param {"handshakes" | "handshake_codes" | "renewals" | "session_ends"} counter */
  rates(counter, now) {
    if (this.#began === null) return {};
    const span = Math.max(1_000, Math.min(LATELY, now - this.#began.at));
    const total = {};
    for (const { at, counts } of this.#steps) if (at > now - span) add(total, counts[counter]);
    return Object.fromEntries(Object.entries(total).map(([name, count]) => [name, (count * 1_000) / span]));
  }

  /** The last `columns` times `width` ms, the oldest first: {at, counts} each. */
  timeline(counter, now, { width, columns }) {
    const last = Math.floor(now / width);
    const found = Array.from({ length: columns }, (_, place) => ({ at: (last - columns + 1 + place) * width, counts: {} }));
    for (const { at, counts } of this.#steps) {
      const column = found[Math.floor(at / width) - last + columns - 1];
      if (column !== undefined) add(column.counts, counts[counter]);
    }
    return found;
  }

  /** Whether a node has not got to where another one was some seconds ago. */
  isBehind(node, partition, now) {
    const then = this.#heights.filter(({ at }) => at <= now - GRACE).at(-1);
    const position = this.stats.nodes[node]?.positions?.[partition];
    return then !== undefined && position !== undefined && position < (then.positions[partition] ?? 0);
  }
}

/** By how much counters have risen; one that fell began anew. */
function risen(before = {}, after = {}) {
  const found = {};
  for (const [name, count] of Object.entries(after)) {
    const more = count - (before[name] ?? 0);
    if (more !== 0) found[name] = more > 0 ? more : count;
  }
  return found;
}

function add(total, counts) {
  for (const [name, count] of Object.entries(counts)) total[name] = (total[name] ?? 0) + count;
}

function furthest(nodes) {
  const found = {};
  for (const { positions = {} } of Object.values(nodes)) {
    for (const [partition, offset] of Object.entries(positions)) found[partition] = Math.max(found[partition] ?? 0, offset);
  }
  return found;
}

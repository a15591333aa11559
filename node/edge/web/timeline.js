/** What a room's pane shows: a stretch of its history without holes, folded from pages of history and from events as they come. */

const NEWEST_KEPT = 400; // lines kept when a long stretch is cut at its old end
const MOST_LINES = 1_200;

export class Timeline {
  /** @type {{seq: number, kind: "message" | "note"}[]} by seq; a new array after each change */
  lines = [];
  loaded = false;
  hasOlder = true;
  hasNewer = false; // the stretch does not reach to the present

  /** Take a page of `history`; `end` says at which end of the stretch it belongs: `only`, `older` or `newer`. */
  page(messages, more, end) {
    const lines = messages.map((message) => ({ ...message, kind: "message", reactions: message.reactions ?? {} }));
    if (end === "only") {
      this.lines = lines;
      this.hasOlder = more;
      this.hasNewer = false;
    } else this.#merge(lines);
    if (end === "older") this.hasOlder = more;
    if (end === "newer") this.hasNewer = more;
    this.loaded = true;
  }

  /** Take a stretch from the middle. */
  middle(older, newer) {
    this.page(older.messages, older.more, "only");
    this.hasNewer = true;
    this.page(newer.messages, newer.more, "newer");
  }

  /** Fold an event in. */
  apply(event) {
    if (event.event === "message") this.#add({ ...event, kind: "message", reactions: {} });
    else if (event.event === "joined" || event.event === "left" || event.event === "room") this.#add({ ...event, kind: "note" });
    else if (event.event === "edited") this.#change(event, () => ({ text: event.text, edited_at: event.at }));
    else if (event.event === "deleted") {
      this.#change(event, () => ({ text: "", reactions: {}, deleted: true, deleted_by: event.from }));
    } else if (event.event === "reacted") this.#change(event, (line) => ({ reactions: reacted(line.reactions, event) }));
  }

  find(id, from) {
    return this.lines.find((line) => line.id === id && (from === undefined || line.from === from));
  }

  /** The newest line that `wanted` holds for. */
  last(wanted = () => true) {
    return this.lines.findLast(wanted);
  }

  /** Forget the old end of a long stretch: it is loaded again when someone looks. */
  trim() {
    if (this.lines.length <= MOST_LINES) return;
    this.lines = this.lines.slice(-NEWEST_KEPT);
    this.hasOlder = true;
  }

  #add(line) {
    if (!this.loaded || this.hasNewer) return; // it will come with its page
    this.#merge([line]);
  }

  #merge(lines) {
    const known = new Map(this.lines.map((line) => [line.seq, line]));
    for (const line of lines) if (!known.has(line.seq)) known.set(line.seq, line);
    this.lines = [...known.values()].sort((a, b) => a.seq - b.seq);
  }

  #change({ id, of }, change) {
    const at = this.lines.findIndex((line) => line.kind === "message" && (of === undefined ? line.id === id : line.seq === of));
    if (at >= 0) this.lines = this.lines.with(at, { ...this.lines[at], ...change(this.lines[at]) });
  }
}

function reacted(reactions, { emoji, from, on }) {
  const others = (reactions[emoji] ?? []).filter((user) => user !== from);
  const users = on ? [...others, from] : others;
  const { [emoji]: _, ...rest } = reactions;
  return users.length > 0 ? { ...reactions, [emoji]: users } : rest;
}

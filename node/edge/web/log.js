/** The lines of a room: loads older ones as one scrolls up, keeps its place, goes along with the present when one is there. */

import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { Message, Note, Pending } from "./line.js";
import { dayKey, dayOf, plural } from "./words.js";

const NEAR = 400; // pixels from an end at which more is loaded
const AT_END = 60;
const TOGETHER_MS = 5 * 60_000; // messages of one author within this time stand together

/** @param {{chat: object, room: object, onTask: Function, onWrite: Function}} props */
export function Log({ chat, room, onTask, onWrite }) {
  const scroller = useRef();
  const place = useRef({ atEnd: true, height: 0, oldest: null });
  const [active, setActive] = useState(null);
  const { timeline } = room;
  const more = () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller.current;
    if (!timeline.loaded || room.loading) return;
    if (scrollTop < NEAR && timeline.hasOlder) chat.older(room);
    else if (scrollHeight - scrollTop - clientHeight < NEAR && timeline.hasNewer) chat.newer(room);
  };
  const look = () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller.current;
    place.current.atEnd = scrollHeight - scrollTop - clientHeight < AT_END && !timeline.hasNewer;
    if (chat.atEnd !== place.current.atEnd) {
      chat.seen(place.current.atEnd);
      chat.changed();
    }
    more();
  };
  useLayoutEffect(() => {
    const node = scroller.current;
    const oldest = timeline.lines[0]?.seq ?? null;
    const grewAbove = place.current.oldest !== null && oldest !== null && oldest < place.current.oldest;
    if (place.current.atEnd && chat.target === null) node.scrollTop = node.scrollHeight;
    else if (grewAbove) node.scrollTop += node.scrollHeight - place.current.height;
    Object.assign(place.current, { height: node.scrollHeight, oldest });
  });
  useEffect(() => {
    chat.seen(place.current.atEnd);
    more();
  }, [timeline.lines, timeline.loaded]);
  useEffect(() => {
    if (chat.target === null) return;
    const line = scroller.current.querySelector(`[data-seq="${chat.target.seq}"]`);
    line?.scrollIntoView({ block: "center" });
    line?.focus({ preventScroll: true });
    place.current.atEnd = false;
  }, [chat.target]);
  useEffect(() => {
    const resized = new ResizeObserver(() => place.current.atEnd && (scroller.current.scrollTop = scroller.current.scrollHeight));
    resized.observe(scroller.current);
    return () => resized.disconnect();
  }, []);
  const toEnd = async () => {
    chat.target = null;
    place.current.atEnd = true;
    if (timeline.hasNewer) await chat.latest(room);
    chat.seen(true);
    chat.changed();
  };
  const keys = (event) => walk(event, scroller.current, onWrite);
  const showEnd = timeline.hasNewer || !chat.atEnd;
  return html`
    <div class="log-frame">
      <div class="log" ref=${scroller} onScroll=${look} onKeyDown=${keys} onFocusIn=${(event) => setActive(seqOf(event.target))} data-test="log">
        <p class="log-top">${top(room)}</p>
        <ol class="lines" role="log" aria-live="off" aria-label="Messages in ${room.titleFor(chat.me)}">
          ${lines(chat, room, active, onTask)}
        </ol>
      </div>
      ${showEnd &&
      html`<button type="button" class=${classes("to-end", room.unread.length > 0 && "has-unread")} onClick=${toEnd}>
        <${Icon} name="down" /> ${room.unread.length > 0 ? plural(room.unread.length, "new message") : "To the latest"}
      </button>`}
    </div>
  `;
}

function top({ timeline, loading }) {
  if (!timeline.loaded || loading) return "Loading…";
  if (timeline.hasOlder) return "";
  return timeline.lines.length === 0 ? "Nothing has been said here yet." : "This is where the room begins.";
}

const seqOf = (node) => Number(node.closest("[data-seq]")?.dataset.seq) || null;

/** ArrowUp and ArrowDown go from message to message, Home and End to the ends, Escape back to writing. */
function walk(event, scroller, onWrite) {
  if (event.key === "Escape") return onWrite();
  const step = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity }[event.key];
  const here = event.target.closest(".line[data-seq]");
  if (step === undefined || here === null) return undefined;
  event.preventDefault();
  const all = [...scroller.querySelectorAll(".line[data-seq]")];
  const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(here) + step))];
  if (next === here && step === 1) return onWrite();
  next.focus();
  return undefined;
}

function lines(chat, room, active, onTask) {
  const { me } = chat;
  const found = [];
  const ranked = room.role === "owner" || room.role === "moderator";
  const shown = room.timeline.lines;
  const tab = shown.some(({ seq }) => seq === active) ? active : shown.findLast(({ kind }) => kind === "message")?.seq;
  const on = {
    reply: (line) => onTask({ kind: "reply", line }),
    edit: (line) => onTask({ kind: "edit", line }),
    remove: (line) => chat.remove(room, line),
    react: (line, emoji) => chat.react(room, line, emoji),
    quote: (line) => chat.jump(room.name, line.seq),
  };
  const lastOwn = shown.findLast((line) => line.kind === "message" && line.from === me);
  let before = null;
  let divided = room.divider === null;
  for (const line of shown) {
    if (before === null || dayKey(before.at) !== dayKey(line.at)) {
      found.push(html`<li class="day" key="day-${line.seq}"><span>${dayOf(line.at)}</span></li>`);
    }
    if (!divided && line.seq >= room.divider) {
      divided = true;
      found.push(html`<li class="divider" key="divider"><span>New</span></li>`);
    }
    if (line.kind === "note") found.push(html`<${Note} key=${line.seq} line=${line} />`);
    else {
      const first = before?.kind !== "message" || before.from !== line.from || line.at - before.at > TOGETHER_MS;
      const own = line.from === me;
      found.push(html`<${Message}
        key=${line.seq}
        line=${line}
        me=${me}
        first=${first}
        active=${line.seq === tab}
        flash=${chat.target?.seq === line.seq}
        quoted=${line.reply_to === undefined ? undefined : room.timeline.find(line.reply_to)}
        seen=${line === lastOwn ? seenBy(room, line) : []}
        can=${{ edit: own, remove: own || ranked }}
        on=${on}
      />`);
    }
    before = line;
  }
  for (const line of room.timeline.hasNewer ? [] : room.pending) {
    const quoted = line.reply_to === undefined ? undefined : room.timeline.find(line.reply_to);
    const props = { line, quoted, onAgain: () => chat.again(room, line), onDiscard: () => chat.discard(room, line) };
    found.push(html`<${Pending} key=${line.id} ...${props} />`);
  }
  return found;
}

function seenBy(room, { seq }) {
  return [...room.readBy].filter(([, read]) => read >= seq).map(([user]) => user);
}

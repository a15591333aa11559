/** One line of a conversation: a message with what can be done to it, a note, or a message that is on its way. */

import { Avatar } from "./avatar.js";
import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { fullTimeOf, people, pieces, timeOf } from "./words.js";

const EMOJI = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "🔥", "👀", "✅", "🚀", "🌊"];

/** A text with its addresses as links; every piece is a text node. */
export function Text({ text }) {
  const link = (href) => html`<a href=${href} target="_blank" rel="noopener noreferrer nofollow">${href}</a>`;
  return pieces(text).map((piece) => (piece.href ? link(piece.href) : piece.text));
}

/**
 * @param {object} props
 * @param {object} props.line of the timeline
 * @param {boolean} props.first of several in a row by one author
 * @param {boolean} props.active where Tab goes to
 * @param {object} props.can what may be done: {edit, remove}
 * @param {object} props.on what to do: {reply, edit, remove, react, quote}
 */
export function Message({ line, me, first, active, flash, quoted, seen, can, on }) {
  const [picking, setPicking] = useState(false);
  const own = line.from === me;
  const keys = (event) => {
    if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey || line.deleted) return;
    const act = { r: () => on.reply(line), e: () => can.edit && on.edit(line), "+": () => setPicking(true) }[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  };
  return html`
    <li
      class=${classes("line", own ? "own" : "other", first && "first", flash && "flash")}
      tabindex=${active ? 0 : -1}
      data-seq=${line.seq}
      aria-label="${line.from}, ${timeOf(line.at)}: ${line.deleted ? "deleted" : line.text}"
      onKeyDown=${keys}
    >
      ${!own && html`<span class="line-avatar">${first && html`<${Avatar} name=${line.from} />`}</span>`}
      <div class="line-body">
        ${first && !own && html`<span class="author">${line.from}</span>`}
        <div class="bubble">
          ${line.reply_to && html`<${Quote} quoted=${quoted} onClick=${() => quoted && on.quote(quoted)} />`}
          ${line.deleted
            ? html`<p class="text gone">${own && line.deleted_by === me ? "You deleted this" : `Deleted by ${line.deleted_by ?? line.from}`}</p>`
            : html`<p class="text"><${Text} text=${line.text} /></p>`}
          <span class="stamp">
            ${line.edited_at && !line.deleted && html`<span>edited</span>`}
            <time datetime=${new Date(line.at).toISOString()} title=${fullTimeOf(line.at)}>${timeOf(line.at)}</time>
          </span>
        </div>
        <${Reactions} line=${line} me=${me} onReact=${(emoji) => on.react(line, emoji)} />
        ${seen.length > 0 && html`<span class="seen">Seen by ${people(seen)}</span>`}
      </div>
      ${!line.deleted && html`<${Tools} line=${line} can=${can} on=${on} picking=${picking} setPicking=${setPicking} />`}
    </li>
  `;
}

function Quote({ quoted, onClick }) {
  if (quoted === undefined) return html`<span class="quote">A message further up</span>`;
  return html`
    <button type="button" class="quote" tabindex="-1" onClick=${onClick}>
      <b>${quoted.from}</b> <span>${quoted.deleted ? "deleted" : quoted.text}</span>
    </button>
  `;
}

function Reactions({ line, me, onReact }) {
  const entries = Object.entries(line.reactions);
  if (entries.length === 0) return null;
  return html`
    <div class="reactions">
      ${entries.map(
        ([emoji, users]) => html`
          <button
            type="button"
            key=${emoji}
            tabindex="-1"
            class=${classes("reaction", users.includes(me) && "is-mine")}
            aria-pressed=${users.includes(me)}
            aria-label="${emoji} by ${people(users, 4)}"
            title=${people(users, 8)}
            onClick=${() => onReact(emoji)}
          >
            <span>${emoji}</span><span>${users.length}</span>
          </button>
        `,
      )}
    </div>
  `;
}

function Tools({ line, can, on, picking, setPicking }) {
  const [sure, setSure] = useState(false);
  useEffect(() => {
    const timer = sure ? setTimeout(() => setSure(false), 4_000) : undefined;
    return () => clearTimeout(timer);
  }, [sure]);
  const back = (event) => event.currentTarget.closest(".line").focus();
  const closing = (event) => {
    if (event.key !== "Escape" || !picking) return;
    event.stopPropagation();
    setPicking(false);
    back(event);
  };
  return html`
    <div class=${classes("tools", picking && "is-open")} onKeyDown=${closing}>
      <${IconButton} icon="smile" label="React (+)" aria-expanded=${picking} onClick=${() => setPicking(!picking)} />
      <${IconButton} icon="reply" label="Reply (R)" onClick=${() => on.reply(line)} />
      ${can.edit && html`<${IconButton} icon="edit" label="Edit (E)" onClick=${() => on.edit(line)} />`}
      ${can.remove &&
      (sure
        ? html`<button type="button" class="small danger" onClick=${() => on.remove(line)}>Delete?</button>`
        : html`<${IconButton} icon="trash" label="Delete" onClick=${() => setSure(true)} />`)}
      ${picking && html`<${Picker} onPick=${(emoji) => (setPicking(false), on.react(line, emoji))} />`}
    </div>
  `;
}

function Picker({ onPick }) {
  const picker = useRef();
  useLayoutEffect(() => picker.current.firstElementChild.focus(), []);
  const walk = (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 6, ArrowUp: -6 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const buttons = [...event.currentTarget.children];
    buttons[(buttons.indexOf(event.target) + steps[event.key] + buttons.length) % buttons.length].focus();
  };
  return html`
    <div class="picker" ref=${picker} role="group" aria-label="Reactions" onKeyDown=${walk}>
      ${EMOJI.map((emoji) => html`<button type="button" key=${emoji} aria-label=${emoji} onClick=${() => onPick(emoji)}>${emoji}</button>`)}
    </div>
  `;
}

/** A message that is not yet in the log. */
export function Pending({ line, quoted, onAgain, onDiscard }) {
  return html`
    <li class=${classes("line own pending", line.error && "failed")} data-id=${line.id}>
      <div class="line-body">
        <div class="bubble">
          ${line.reply_to && html`<${Quote} quoted=${quoted} />`}
          <p class="text"><${Text} text=${line.text} /></p>
          <span class="stamp">${line.error ? "not sent" : "sending…"}</span>
        </div>
        ${line.error &&
        html`<p class="failure" role="alert">
          ${line.error} <button type="button" class="link" onClick=${onAgain}>Try again</button>${" "}
          <button type="button" class="link" onClick=${onDiscard}>Discard</button>
        </p>`}
      </div>
    </li>
  `;
}

/** Who came, who went, what the room is called. */
export function Note({ line }) {
  return html`<li class="note" data-seq=${line.seq}><${Text} text=${noteWords(line)} /></li>`;
}

function noteWords({ event, user, by, title, kind, change, role, at }) {
  const time = timeOf(at);
  if (event === "joined") return `${user} joined · ${time}`;
  if (event === "left") return `${by && by !== user ? `${by} put ${user} out` : `${user} left`} · ${time}`;
  if (change === "invited") return `${by} invited ${user} · ${time}`;
  if (change === "role") return `${by} made ${user} ${role} · ${time}`;
  if (change === "created") return `${by} opened this ${kind === "direct" ? "conversation" : "room"} · ${time}`;
  return `The room is now called ${title} · ${time}`;
}

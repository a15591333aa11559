/** Where one writes: Enter sends, Shift+Enter is a new line, ArrowUp edits the last message, Escape lets go. */

import { html, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon, IconButton } from "./icons.js";

const MOST = 4_000;
const MOST_HEIGHT = 220;

/** Put the focus where one writes. */
export function write() {
  document.getElementById("message")?.focus();
}

/** The same, but not on a phone: its keyboard would cover what one came to read. */
export function writeIfHandy() {
  if (matchMedia("(hover: hover)").matches) write();
}

/**
 * @param {{chat: object, room: object, task: null | {kind: "reply" | "edit", line: object}, onTask: Function}} props
 */
export function Composer({ chat, room, task, onTask }) {
  const field = useRef();
  const [text, setText] = useState(room.draft);
  useLayoutEffect(() => {
    if (task?.kind === "edit") setText(task.line.text);
    if (task !== null) field.current.focus();
  }, [task]);
  useLayoutEffect(() => {
    field.current.style.height = "auto";
    field.current.style.height = `${Math.min(MOST_HEIGHT, field.current.scrollHeight)}px`;
  }, [text]);
  const write = (value) => {
    setText(value);
    if (task?.kind !== "edit") room.draft = value;
    chat.typing(room, value.trim() !== "");
  };
  const done = () => {
    chat.typing(room, false);
    setText(task?.kind === "edit" ? room.draft : "");
    if (task?.kind !== "edit") room.draft = "";
    onTask(null);
  };
  const cancel = () => {
    setText(room.draft);
    onTask(null);
  };
  const submit = async (event) => {
    event?.preventDefault();
    const value = text.trim();
    if (!value || value.length > MOST) return;
    if (task?.kind === "edit") {
      if (value !== task.line.text && !(await chat.edit(room, task.line, value))) return;
    } else chat.send(room, value, task?.line);
    done();
  };
  const keys = (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) submit(event);
    else if (event.key === "Escape" && task !== null) cancel();
    else if (event.key === "ArrowUp" && text === "" && task === null) {
      const last = room.timeline.last((line) => line.kind === "message" && line.from === chat.me && !line.deleted);
      if (last === undefined) return;
      event.preventDefault();
      onTask({ kind: "edit", line: last });
    }
  };
  const left = MOST - text.length;
  return html`
    <form class="composer" onSubmit=${submit}>
      ${task && html`<${Task} task=${task} onCancel=${cancel} />`}
      <div class="composer-row">
        <label class="sr-only" for="message">Message to ${room.titleFor(chat.me)}</label>
        <textarea
          id="message"
          ref=${field}
          rows="1"
          value=${text}
          placeholder="Message ${room.titleFor(chat.me)}"
          aria-describedby="composer-help"
          onInput=${(event) => write(event.target.value)}
          onKeyDown=${keys}
          onBlur=${() => chat.typing(room, false)}
        ></textarea>
        ${left < 200 && html`<span class=${left < 0 ? "error" : "muted"}>${left}</span>`}
        <button type="submit" class="send" aria-label=${task?.kind === "edit" ? "Save" : "Send"} disabled=${!text.trim() || left < 0}>
          <${Icon} name="send" />
        </button>
      </div>
      <p id="composer-help" class="sr-only">Enter sends, Shift and Enter makes a new line, ArrowUp edits your last message.</p>
    </form>
  `;
}

function Task({ task, onCancel }) {
  const title = task.kind === "edit" ? "Edit your message" : `Reply to ${task.line.from}`;
  return html`
    <div class="task">
      <${Icon} name=${task.kind} />
      <span class="task-words"><b>${title}</b> <span>${task.line.text}</span></span>
      <${IconButton} icon="close" label="Cancel (Escape)" onClick=${onCancel} />
    </div>
  `;
}

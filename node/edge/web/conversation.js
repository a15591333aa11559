/** The middle of the page: the open room. */

import { HELD } from "./chat.js";
import { Composer, write, writeIfHandy } from "./composer.js";
import { html, useEffect, useLayoutEffect, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { Log } from "./log.js";
import { Logo } from "./logo.js";
import { Strip } from "./strip.js";
import { people, plural } from "./words.js";

export function Conversation({ chat, side, onSide, onAdd }) {
  const { room } = chat;
  return html`
    <main class="conversation" aria-label=${room ? room.titleFor(chat.me) : "No room"}>
      ${room ? html`<${Header} chat=${chat} room=${room} side=${side} onSide=${onSide} />` : null}
      <${Strip} chat=${chat} held=${chat.held ? HELD : null} />
      ${room ? html`<${Body} key=${room.name} chat=${chat} room=${room} />` : html`<${Empty} chat=${chat} onAdd=${onAdd} />`}
    </main>
  `;
}

function Header({ chat, room, side, onSide }) {
  const online = (room.members ?? []).filter((member) => member.online).length;
  const here = chat.link.state === "connected"; // or nobody knows who is online
  const members = room.members === null ? " " : `${plural(room.members.length, "member")}${here ? `, ${online} online` : ""}`;
  const toggle = (pane) => onSide(side === pane ? null : pane);
  const leave = () => confirm(`Leave ${room.titleFor(chat.me)}?`) && chat.leave(room.name);
  return html`
    <header class="room-head">
      <span class="phone-only"><${IconButton} icon="back" label="All rooms" onClick=${() => chat.leavePane()} /></span>
      <div class="room-head-words">
        <h1>${room.kind === "public" ? html`<span class="muted" aria-hidden="true"># </span>` : ""}${room.titleFor(chat.me)}</h1>
        <p class="muted">${members}</p>
      </div>
      <${IconButton} icon="search" label="Search in this room" aria-pressed=${side === "search-room"} onClick=${() => toggle("search-room")} />
      <${IconButton} icon="people" label="People" aria-pressed=${side === "people"} onClick=${() => toggle("people")} />
      ${room.kind !== "direct" && html`<${IconButton} icon="leave" label="Leave this room" onClick=${leave} />`}
    </header>
  `;
}

function Body({ chat, room }) {
  const [task, setTask] = useState(null);
  const choose = (next) => {
    setTask(next);
    if (next === null) write();
  };
  useLayoutEffect(writeIfHandy, []);
  return html`
    <${Log} chat=${chat} room=${room} onTask=${setTask} onWrite=${write} />
    <${Typing} room=${room} />
    <${Composer} chat=${chat} room=${room} task=${task} onTask=${choose} />
  `;
}

function Typing({ room }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => room.typing.size > 0 && tick((count) => count + 1), 1_000);
    return () => clearInterval(timer);
  }, [room]);
  const users = room.typers(Date.now());
  return html`
    <p class="typing" data-test="typing">
      ${users.length > 0 && html`<span class="typing-dots" aria-hidden="true"><i></i><i></i><i></i></span>`}
      ${users.length > 0 && `${people(users)} ${users.length === 1 ? "is" : "are"} typing`}
    </p>
  `;
}

function Empty({ chat, onAdd }) {
  const known = chat.me !== undefined; // or nobody knows which rooms there are
  return html`
    <div class="nothing">
      <${Logo} />
      ${chat.rooms.size > 0 && html`<p>Choose a room, or</p>`}
      ${known && html`<button type="button" class="primary" onClick=${onAdd}>Join or create a room</button>`}
    </div>
  `;
}

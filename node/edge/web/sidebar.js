/** The rooms, and oneself below them. */

import { Avatar } from "./avatar.js";
import { badgeOf } from "./chat.js";
import { TokenClock } from "./clock.js";
import { classes, html } from "./html.js";
import { Icon, IconButton } from "./icons.js";
import { Logo } from "./logo.js";

export function Sidebar({ chat, onAdd, onSearch, onLink }) {
  const rooms = [...chat.rooms.values()].sort((a, b) => a.titleFor(chat.me).localeCompare(b.titleFor(chat.me)));
  const direct = rooms.filter(({ kind }) => kind === "direct");
  const others = rooms.filter(({ kind }) => kind !== "direct");
  return html`
    <nav class="sidebar" aria-label="Rooms">
      <header class="sidebar-head">
        <${Logo} />
        <span class="wordmark">Tidegate</span>
        <${IconButton} icon="search" label="Search all rooms (Ctrl+K)" onClick=${onSearch} />
        <${IconButton} icon="plus" label="Join or create a room" onClick=${onAdd} />
      </header>
      <div class="sidebar-rooms">
        ${chat.me !== undefined &&
        rooms.length === 0 &&
        chat.invitations.size === 0 &&
        html`<p class="empty">No rooms yet. <button type="button" class="link" onClick=${onAdd}>Join or create one</button>.</p>`}
        <${Invitations} chat=${chat} />
        <${Group} title="Rooms" rooms=${others} chat=${chat} />
        <${Group} title="Direct" rooms=${direct} chat=${chat} />
      </div>
      <${Me} chat=${chat} onLink=${onLink} />
    </nav>
  `;
}

function Group({ title, rooms, chat }) {
  if (rooms.length === 0) return null;
  return html`
    <h2 class="group">${title}</h2>
    <ul class="plain">
      ${rooms.map((room) => html`<${RoomLink} key=${room.name} room=${room} chat=${chat} />`)}
    </ul>
  `;
}

function RoomLink({ room, chat }) {
  const here = chat.current === room.name;
  const title = room.titleFor(chat.me);
  const unread = !here || document.hidden ? room.unread.length : 0;
  const badge = badgeOf(room);
  const last = room.timeline.last((line) => line.kind === "message" && !line.deleted);
  return html`
    <li>
      <button
        type="button"
        class=${classes("room-link", here && "is-here", unread > 0 && "has-unread")}
        aria-current=${here ? "page" : undefined}
        data-room=${room.name}
        onClick=${() => chat.open(room.name)}
      >
        <${Mark} kind=${room.kind} title=${title} />
        <span class="room-words">
          <span class="room-title">${title}</span>
          ${last && html`<span class="room-last">${last.from === chat.me ? "You" : last.from}: ${last.text}</span>`}
        </span>
        ${unread > 0 && html`<span class="badge" aria-label=${badge.label}>${badge.text}</span>`}
      </button>
    </li>
  `;
}

function Mark({ kind, title }) {
  if (kind === "direct") return html`<${Avatar} name=${title} small />`;
  return html`<span class="room-mark" aria-hidden="true">${kind === "private" ? html`<${Icon} name="lock" />` : "#"}</span>`;
}

function Invitations({ chat }) {
  if (chat.invitations.size === 0) return null;
  return html`
    <h2 class="group">Invitations</h2>
    <ul class="plain">
      ${[...chat.invitations].map(
        ([room, { title, by }]) => html`
          <li class="invitation" key=${room}>
            <span class="room-words">
              <span class="room-title">${title || room}</span>
              ${by && html`<span class="room-last">from ${by}</span>`}
            </span>
            <button type="button" class="small" onClick=${() => chat.join(room).catch((error) => chat.fail(error))}>Join</button>
          </li>
        `,
      )}
    </ul>
  `;
}

const STATES = {
  connected: "Connected",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  expired: "Token ended",
  draining: "Node is leaving",
  "sign-in": "Sign-in needed",
  refused: "Refused",
};

function Me({ chat, onLink }) {
  const { state, node } = chat.link;
  const name = chat.me ?? "…";
  const words = state === "connected" ? html`on <b data-test="node">${node}</b>` : (STATES[state] ?? state);
  return html`
    <button type="button" class="me" onClick=${onLink} aria-label="Connection, nodes and token" data-state=${state}>
      <${Avatar} name=${name} />
      <span class="me-words">
        <span class="me-name">${name}</span>
        <span class="me-state"><span class=${classes("dot", state === "connected" ? "dot-good" : "dot-wait")} aria-hidden="true"></span>${words}</span>
      </span>
      <${TokenClock} chat=${chat} />
    </button>
  `;
}

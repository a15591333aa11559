/** The pane at the side: people, search, or the connection. */

import { Avatar } from "./avatar.js";
import { narrow } from "./chat.js";
import { TokenClock } from "./clock.js";
import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { IconButton } from "./icons.js";
import { dayOf, explain, fullTimeOf, plural, timeOf } from "./words.js";

const TITLES = { people: "People", "search-room": "Search this room", search: "Search", link: "Connection" };

export function Side({ chat, pane, onClose, onSignOut }) {
  const panel = useRef();
  useLayoutEffect(() => (panel.current.querySelector("input") ?? panel.current.querySelector("button")).focus(), [pane]);
  const keys = (event) => event.key === "Escape" && onClose();
  const body = {
    people: () => chat.room && html`<${People} chat=${chat} room=${chat.room} />`,
    "search-room": () => html`<${Search} key=${chat.current} chat=${chat} room=${chat.room} onClose=${onClose} />`,
    search: () => html`<${Search} key="all" chat=${chat} onClose=${onClose} />`,
    link: () => html`<${Link} chat=${chat} onSignOut=${onSignOut} />`,
  }[pane];
  return html`
    <aside class="side" ref=${panel} aria-label=${TITLES[pane]} onKeyDown=${keys}>
      <header class="side-head">
        <h2>${TITLES[pane]}</h2>
        <${IconButton} icon="close" label="Close (Escape)" onClick=${onClose} />
      </header>
      <div class="side-body">${body()}</div>
    </aside>
  `;
}

// People

const RANK = { owner: 0, moderator: 1, member: 2 };

function People({ chat, room }) {
  const members = [...(room.members ?? [])].sort(
    (a, b) => Number(b.online) - Number(a.online) || RANK[a.role] - RANK[b.role] || a.user.localeCompare(b.user),
  );
  const mayInvite = room.kind === "public" || (room.kind === "private" && room.role !== "member");
  return html`
    ${mayInvite && html`<${Invite} onInvite=${(user) => chat.manage("room:invite", { room: room.name, user })} />`}
    <ul class="plain members">
      ${members.map((member) => html`<${Person} key=${member.user} chat=${chat} room=${room} member=${member} />`)}
    </ul>
  `;
}

function Invite({ onInvite }) {
  const [user, setUser] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (user.trim()) onInvite(user.trim());
    setUser("");
  };
  return html`
    <form class="inline" onSubmit=${submit}>
      <label class="sr-only" for="invite">Invite someone by name</label>
      <input id="invite" placeholder="Invite by name" value=${user} onInput=${(event) => setUser(event.target.value)} />
      <button type="submit" class="small" disabled=${!user.trim()}>Invite</button>
    </form>
  `;
}

function Person({ chat, room, member }) {
  const { user, role, online } = member;
  const me = user === chat.me;
  const here = chat.link.state === "connected"; // or nobody knows who is online
  const mayKick = !me && room.kind !== "direct" && RANK[room.role] < 2 && RANK[room.role] < RANK[role];
  const mayRank = !me && room.kind !== "direct" && room.role === "owner";
  const kick = () => confirm(`Put ${user} out of this room?`) && chat.manage("room:kick", { room: room.name, user });
  const rank = (event) => chat.manage("room:role", { room: room.name, user, role: event.target.value });
  return html`
    <li class="person" data-user=${user}>
      <${Avatar} name=${user} online=${here && online} />
      <span class="room-words">
        <span class="room-title">${user}${me ? " (you)" : ""}</span>
        <span class="room-last">
          ${here ? (online ? "online" : "away") : "…"}${mayRank && " ·"}
          ${mayRank
            ? html`<select aria-label="Role of ${user}" value=${role} onChange=${rank}>
                ${Object.keys(RANK).map((each) => html`<option value=${each}>${each}</option>`)}
              </select>`
            : role !== "member" && ` · ${role}`}
        </span>
      </span>
      ${!me && room.kind !== "direct" && html`<${IconButton} icon="talk" label="Talk to ${user} directly" onClick=${() => chat.direct(user)} />`}
      ${mayKick && html`<${IconButton} icon="leave" label="Put ${user} out" onClick=${kick} />`}
    </li>
  `;
}

// Search

function Search({ chat, room, onClose }) {
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    let current = true; // an answer to an older question is not shown
    const words = query.trim();
    setError(null);
    if (!words) return setFound(null);
    const timer = setTimeout(async () => {
      try {
        const messages = await chat.search(words, room?.name);
        if (current) setFound(messages);
      } catch (failure) {
        if (current) setError(explain(failure));
      }
    }, 250);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [query]);
  const go = ({ room: name, seq }) => {
    if (narrow()) onClose();
    chat.jump(name, seq);
  };
  return html`
    <label class="sr-only" for="search">Words to search for</label>
    <input id="search" type="search" placeholder="Words to search for" value=${query} onInput=${(event) => setQuery(event.target.value)} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    <p class="hint" role="status">${found === null ? "" : found.length === 0 ? "Nothing found." : plural(found.length, "message")}</p>
    <ul class="plain results">
      ${(found ?? []).map(
        (message) => html`
          <li key="${message.room}-${message.seq}">
            <button type="button" class="result" onClick=${() => go(message)}>
              <span class="result-head">
                <b>${message.from}</b>
                <span class="muted">${room ? "" : `${chat.rooms.get(message.room)?.titleFor(chat.me) ?? message.room} · `}${dayOf(message.at)} ${timeOf(message.at)}</span>
              </span>
              <span class="result-text">${message.text}</span>
            </button>
          </li>
        `,
      )}
    </ul>
  `;
}

// Connection

function Link({ chat, onSignOut }) {
  const { nodes } = chat;
  useEffect(() => nodes.ask(() => chat.changed()), []);
  const { state, node, session, expires_at } = chat.link;
  const here = state === "connected";
  const move = (event, url) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return; // a tab of its own
    event.preventDefault();
    chat.tide.move(url);
  };
  return html`
    <div class="link-now">
      <${TokenClock} chat=${chat} />
      <p>
        ${here ? html`On <b>${node}</b>` : "Not connected"}<br />
        <span class="muted">${here ? `Token good until ${timeOf(expires_at)}, ${renewedWords(chat.journal.renewals)}` : state}</span>
      </p>
    </div>
    <div class="actions">
      <button type="button" class="small" disabled=${!here} onClick=${() => chat.tide.renew()}>Renew now</button>
      <button type="button" class="small" onClick=${onSignOut}>Sign out</button>
    </div>
    <h3>Nodes</h3>
    <ul class="plain nodes">
      ${nodes.urls.map(
        (url) => html`
          <li key=${url}>
            <a
              href="${url}/#as=${encodeURIComponent(chat.me ?? "")}"
              class=${classes("node", here && chat.link.url === url && "is-here")}
              aria-current=${here && chat.link.url === url ? "true" : undefined}
              title="Go on there; with Ctrl, in a tab of its own"
              onClick=${(event) => move(event, url)}
              >${nodes.fullNameOf(url)}${here && chat.link.url === url ? html`<span class="muted">here</span>` : ""}</a
            >
          </li>
        `,
      )}
    </ul>
    <h3>What happened</h3>
    <ol class="plain journal" data-test="journal">
      ${chat.journal.entries.map(
        (entry) => html`
          <li class="entry entry-${entry.tone}"><time title=${fullTimeOf(entry.at)}>${seconds(entry.at)}</time><span>${entry.text}</span></li>
        `,
      )}
    </ol>
    ${session && html`<p class="hint">Session <code>${session}</code></p>`}
  `;
}

const renewedWords = (count) => (count === 0 ? "not renewed yet" : `renewed ${plural(count, "time")}`);

const seconds = (at) => new Date(at).toLocaleTimeString();

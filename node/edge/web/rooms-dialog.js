/** Join a public room, or make one. */

import { writeIfHandy } from "./composer.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { nameFrom } from "./names.js";
import { explain, plural } from "./words.js";

export function RoomsDialog({ chat, onClose }) {
  const dialog = useRef();
  const [query, setQuery] = useState("");
  const [found, setFound] = useState(null); // {words, rooms}
  const [error, setError] = useState(null);
  const [asked, setAsked] = useState(0); // how often Enter has left a choice
  const words = query.trim();
  useLayoutEffect(() => dialog.current.showModal(), []);
  useEffect(() => {
    let current = true; // an answer to an older question is not shown
    const look = async () => {
      const rooms = await chat.listed(words);
      if (current) setFound({ words, rooms });
    };
    const timer = setTimeout(() => look().catch(fail), words ? 200 : 0);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [words]);
  useLayoutEffect(() => void (asked > 0 && dialog.current.querySelector(".choices button")?.focus()), [asked]);
  const fail = (failure) => setError(explain(failure));
  const attempt = async (act) => {
    try {
      await act();
    } catch (failure) {
      return fail(failure);
    }
    dialog.current?.close(); // gives the focus back to what had it before
    return writeIfHandy();
  };
  const enter = (room) => attempt(async () => (chat.rooms.has(room) ? chat.open(room) : chat.join(room)));
  const create = (fields) => attempt(() => chat.create(fields));
  const submit = async (event) => {
    event.preventDefault();
    if (!words) return;
    try {
      const rooms = await chat.listed(words);
      const meant = theOne(rooms, words);
      if (meant !== undefined) return void enter(meant.room);
      setFound({ words, rooms });
      setAsked(asked + 1);
    } catch (failure) {
      fail(failure);
    }
  };
  const type = (event) => {
    setQuery(event.target.value);
    setError(null);
  };
  return html`
    <dialog ref=${dialog} class="dialog" aria-labelledby="rooms-title" onClose=${onClose}>
      <h2 id="rooms-title">Rooms</h2>
      ${error && html`<p class="error" role="alert">${error}</p>`}
      <form role="search" onSubmit=${submit}>
        <label>Find a public room<input type="search" value=${query} onInput=${type} /></label>
      </form>
      <${Found} chat=${chat} found=${found} words=${words} onEnter=${enter} onCreate=${create} />
      <${NewRoom} onCreate=${create} />
      <div class="actions"><button type="button" class="quiet" onClick=${() => dialog.current.close()}>Close</button></div>
    </dialog>
  `;
}

/** The room that someone means who types these words and Enter: the one of that name, or the only one. */
function theOne(rooms, words) {
  const same = (text) => text?.toLowerCase() === words.toLowerCase();
  const exact = rooms.filter(({ room, title }) => same(room) || same(title));
  const [only, ...others] = exact.length > 0 ? exact : rooms;
  return others.length === 0 ? only : undefined;
}

/** The rooms one is in are shown where they were looked for. */
function Found({ chat, found, words, onEnter, onCreate }) {
  const rooms = (found?.rooms ?? []).filter(({ room }) => found.words !== "" || !chat.rooms.has(room));
  const none = found !== null && found.words === words && rooms.length === 0;
  const name = nameFrom(words);
  return html`
    <ul class="plain choices" aria-label="Public rooms">
      ${none &&
      html`<li class="none">
        <span>${words ? "None of that name." : "No public rooms to join yet."}</span>
        ${name &&
        html`<button type="button" class="small" onClick=${() => onCreate({ room: name, title: words, kind: "public" })}>Create “${words}”</button>`}
      </li>`}
      ${rooms.map(({ room, title, members }) => {
        const called = chat.rooms.get(room)?.titleFor(chat.me) ?? (title || room);
        const act = chat.rooms.has(room) ? "Open" : "Join";
        return html`
          <li key=${room}>
            <span class="room-words">
              <span class="room-title">${called}</span>
              <span class="room-last">${room} · ${plural(members ?? 0, "member")}</span>
            </span>
            <button type="button" class="small" aria-label="${act} ${called}" onClick=${() => onEnter(room)}>${act}</button>
          </li>
        `;
      })}
    </ul>
  `;
}

function NewRoom({ onCreate }) {
  const field = useRef();
  const [title, setTitle] = useState("");
  const [kind, setKind] = useState("public");
  const [wrong, setWrong] = useState(false);
  const room = nameFrom(title);
  const type = (event) => {
    setTitle(event.target.value);
    setWrong(false);
  };
  const submit = (event) => {
    event.preventDefault();
    if (room) return onCreate({ room, title: title.trim(), kind });
    setWrong(true);
    return field.current.focus();
  };
  return html`
    <form class="new-room" onSubmit=${submit}>
      <h3>A new room</h3>
      <label>
        Title
        <input ref=${field} value=${title} maxlength="200" aria-required="true" aria-invalid=${wrong} aria-describedby="new-room-name" onInput=${type} />
      </label>
      <p id="new-room-name" class=${wrong ? "error" : "hint"} role="status">
        ${wrong ? "At least one letter or digit" : room ? html`Its name will be <code>${room}</code>.` : "\u00a0"}
      </p>
      <fieldset class="choice">
        <legend>Who may come in</legend>
        <label><input type="radio" name="kind" checked=${kind === "public"} onChange=${() => setKind("public")} /> Everyone</label>
        <label><input type="radio" name="kind" checked=${kind === "private"} onChange=${() => setKind("private")} /> Invited people only</label>
      </fieldset>
      <button type="submit" class="primary">Create</button>
    </form>
  `;
}

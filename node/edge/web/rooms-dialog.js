/** Join a public room, or make one. */

import { writeIfHandy } from "./composer.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { explain, plural } from "./words.js";

/** A room's name from what people call it. */
export function nameFrom(title) {
  const plain = title.normalize("NFKD").toLowerCase().replace(/[^a-z0-9._-]+/g, "-");
  return plain.replace(/^[^a-z0-9]+|-+$/g, "").slice(0, 64);
}

export function RoomsDialog({ chat, onClose }) {
  const dialog = useRef();
  const [rooms, setRooms] = useState(null);
  const [query, setQuery] = useState("");
  const [error, setError] = useState(null);
  useLayoutEffect(() => dialog.current.showModal(), []);
  useEffect(() => {
    const timer = setTimeout(() => chat.listed(query).then(setRooms, (failure) => setError(explain(failure))), query ? 200 : 0);
    return () => clearTimeout(timer);
  }, [query]);
  const enter = () => {
    dialog.current?.close(); // gives the focus back to what had it before
    writeIfHandy();
  };
  const attempt = (act) => act().then(enter, (failure) => setError(explain(failure)));
  const others = (rooms ?? []).filter(({ room }) => !chat.rooms.has(room));
  return html`
    <dialog ref=${dialog} class="dialog" aria-labelledby="rooms-title" onClose=${onClose}>
      <h2 id="rooms-title">Rooms</h2>
      ${error && html`<p class="error" role="alert">${error}</p>`}
      <label>Find a public room<input type="search" value=${query} onInput=${(event) => setQuery(event.target.value)} /></label>
      <ul class="plain choices" aria-label="Public rooms">
        ${rooms !== null && others.length === 0 && html`<li class="empty">${query ? "None of that name." : "None that you are not in."}</li>`}
        ${others.map(
          ({ room, title, members }) => html`
            <li key=${room}>
              <span class="room-words">
                <span class="room-title">${title || room}</span>
                <span class="room-last">${room} · ${plural(members ?? 0, "member")}</span>
              </span>
              <button type="button" class="small" aria-label="Join ${title || room}" onClick=${() => attempt(() => chat.join(room))}>Join</button>
            </li>
          `,
        )}
      </ul>
      <${NewRoom} onCreate=${(fields) => attempt(() => chat.create(fields))} />
      <div class="actions"><button type="button" class="quiet" onClick=${() => dialog.current.close()}>Close</button></div>
    </dialog>
  `;
}

function NewRoom({ onCreate }) {
  const [title, setTitle] = useState("");
  const [kind, setKind] = useState("public");
  const room = nameFrom(title);
  const submit = (event) => {
    event.preventDefault();
    if (room) onCreate({ room, title: title.trim(), kind });
  };
  return html`
    <form class="new-room" onSubmit=${submit}>
      <h3>A new room</h3>
      <label>Title<input value=${title} maxlength="200" required onInput=${(event) => setTitle(event.target.value)} /></label>
      <p class="hint">${room ? html`Its name will be <code>${room}</code>.` : "Letters or figures, at least one."}</p>
      <fieldset class="choice">
        <legend>Who may come in</legend>
        <label><input type="radio" name="kind" checked=${kind === "public"} onChange=${() => setKind("public")} /> Everyone</label>
        <label><input type="radio" name="kind" checked=${kind === "private"} onChange=${() => setKind("private")} /> Who is invited</label>
      </fieldset>
      <button type="submit" class="primary">Create</button>
    </form>
  `;
}

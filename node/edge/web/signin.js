/** The door: a name for the dev issuer, or a token. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Logo } from "./logo.js";

const LIVES = [
  [20, "20 seconds"],
  [60, "1 minute"],
  [300, "5 minutes"],
  [3_600, "1 hour"],
];

const CHAT = { title: "Tidegate", button: "Come in", hint: null };

/**
 * @param {{config: object, ttl: number, name: string, why: string | null, door?: {title: string, button: string, hint: string | null},
 *   pasted?: boolean, onEnter: (given: {user?, ttl?, token?}) => void}} props `button`: for a name; `hint`: about a token; `pasted`: whether
 *   it was a token that was tried before
 */
export function SignIn({ config, ttl, name, why, door = CHAT, pasted = false, onEnter }) {
  const [byToken, setByToken] = useState(pasted || !config.dev_issuer);
  const [life, setLife] = useState(ttl);
  const first = useRef();
  useLayoutEffect(() => first.current?.focus(), [byToken]);
  const submit = (event) => {
    event.preventDefault();
    const value = first.current.value.trim();
    if (value) onEnter(byToken ? { token: value } : { user: value, ttl: life });
  };
  const lives = LIVES.some(([seconds]) => seconds === ttl) ? LIVES : [[ttl, `${ttl} seconds`], ...LIVES];
  return html`
    <main class="door">
      <form class="door-card" onSubmit=${submit}>
        <${Logo} />
        <h1>${door.title}</h1>
        <p class="muted">You are at node <b>${config.node}</b>${config.peers.length > 1 ? html`, one of ${config.peers.length}` : ""}.</p>
        ${why && html`<p class="error" role="alert">${why}</p>`}
        ${byToken
          ? html`
              <label>Token<textarea ref=${first} rows="4" spellcheck="false" autocomplete="off" required placeholder="eyJ…"></textarea></label>
              ${door.hint && html`<p class="hint">${door.hint}</p>`}
            `
          : html`
              <label>Your name<input ref=${first} defaultValue=${name} maxlength="128" autocomplete="username" required /></label>
              <label>
                Token good for
                <select value=${life} onChange=${(event) => setLife(Number(event.target.value))}>
                  ${lives.map(([seconds, words]) => html`<option value=${seconds}>${words}</option>`)}
                </select>
              </label>
            `}
        <button class="primary" type="submit">${byToken ? CHAT.button : door.button}</button>
        ${config.dev_issuer &&
        html`<button class="quiet" type="button" onClick=${() => setByToken(!byToken)}>
          ${byToken ? "Use a name instead" : "Use a token instead"}
        </button>`}
      </form>
    </main>
  `;
}

/** Over the page, when the token that was pasted is not good any more. */
export function NewToken({ why, onToken, onLeave }) {
  const dialog = useRef();
  const field = useRef();
  useLayoutEffect(() => dialog.current.showModal(), []);
  const submit = (event) => {
    event.preventDefault();
    const value = field.current.value.trim();
    if (value) onToken(value);
  };
  return html`
    <dialog ref=${dialog} class="dialog" aria-labelledby="new-token">
      <form onSubmit=${submit}>
        <h2 id="new-token">A fresh token is needed</h2>
        <p class="muted">${why}</p>
        <label>Token<textarea ref=${field} rows="4" spellcheck="false" autocomplete="off" required></textarea></label>
        <div class="actions">
          <button type="button" class="quiet" onClick=${onLeave}>Sign out</button>
          <button type="submit" class="primary">Go on</button>
        </div>
      </form>
    </dialog>
  `;
}

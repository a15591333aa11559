/** Sessions by user, by token, or by their id; and what can be done about each. */

import { html, useEffect, useRef, useState } from "../html.js";
import { explain, plural } from "../words.js";
import { disconnect, liftSuspension, revokeToken, revokeUser, suspend } from "./actions.js";
import { lasting, places, secondOf } from "./words.js";

const MOST = 50; // sessions shown
const NEWEST = 8; // where nothing is looked for
const LOOK_EVERY = 10_000; // ms
const WAYS = [
  ["query", "User"],
  ["jti", "Token id (jti)"],
  ["session", "Session id"],
];

/** @param {{ops: import("./link.js").Ops, done: number, onAct: Function}} props `done`: changes when something was done */
export function Sessions({ ops, done, onAct }) {
  const [way, setWay] = useState("query");
  const [words, setWords] = useState("");
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [round, again] = useState(0);
  const asked = useRef(0);
  const wanted = words.trim();
  const here = ops.link.state === "connected";
  useEffect(() => {
    const turn = (asked.current += 1); // an answer to an older question is not shown
    const filter = wanted === "" ? {} : { [way]: wanted };
    const look = async () => {
      try {
        const answer = await ops.ask("sessions", { ...filter, limit: wanted === "" ? NEWEST : MOST });
        const exact = way === "query" && wanted !== "" ? await ops.ask("sessions", { user: wanted, limit: 1 }) : null;
        if (turn === asked.current) setFound({ ...answer, suspended: exact?.suspended_until ?? null, way, wanted, at: Date.now() });
        if (turn === asked.current) setError(null);
      } catch (failure) {
        if (turn === asked.current) setError(explain(failure));
      }
    };
    const timer = here ? setTimeout(look, wanted === "" ? 0 : 250) : undefined;
    return () => clearTimeout(timer);
  }, [way, wanted, round, done, here]);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || again((count) => count + 1), LOOK_EVERY);
    return () => clearInterval(timer);
  }, []);
  const submit = (event) => {
    event.preventDefault();
    again(round + 1);
  };
  return html`
    <section class="panel" aria-labelledby="sessions-title">
      <header class="panel-head"><h2 id="sessions-title">Sessions</h2></header>
      <form class="search" role="search" onSubmit=${submit}>
        <label>
          Look by
          <select value=${way} onChange=${(event) => setWay(event.target.value)}>
            ${WAYS.map(([name, title]) => html`<option key=${name} value=${name}>${title}</option>`)}
          </select>
        </label>
        <label>
          ${way === "query" ? "Part of a name, or all of it" : "The whole id"}
          <input id="find" type="search" value=${words} autocomplete="off" spellcheck="false" onInput=${(event) => setWords(event.target.value)} />
        </label>
        <button type="submit" class="small">Look again</button>
      </form>
      ${error && html`<p class="error" role="alert">${error}</p>`}
      ${found && html`<${Found} found=${found} ops=${ops} onAct=${onAct} />`}
    </section>
  `;
}

function Found({ found, ops, onAct }) {
  const { sessions, total, nodes, more, way, wanted, at, suspended } = found;
  const users = byUser(sessions);
  if (way === "query" && wanted !== "" && !users.some(([user]) => user === wanted)) users.unshift([wanted, []]); // who is not here can be kept out too
  return html`
    <p class="hint" role="status" data-test="found">
      ${total === 0 ? "No open session" : `${plural(total, "session")} on ${places(nodes)}`}${wanted === "" ? "" : ` for “${wanted}”`}${more ? `; the newest ${sessions.length} are below` : ""}, as of ${secondOf(at)}.
    </p>
    ${way === "jti" && wanted !== "" && html`<p><button type="button" class="small danger" onClick=${() => onAct(revokeToken(wanted))}>Revoke this token</button></p>`}
    ${users.map(
      ([user, theirs]) => html`
        <div key=${user} class="user" data-user=${user}>
          <${UserHead} user=${user} count=${theirs.length} suspended=${user === wanted ? suspended : null} onAct=${onAct} />
          <ul class="plain rows">
            ${theirs.map((session) => html`<${Row} key=${session.session} session=${session} ops=${ops} onAct=${onAct} />`)}
          </ul>
        </div>
      `,
    )}
  `;
}

/** The newest first: who has the newest session, and in it. @returns {[string, object[]][]} */
function byUser(sessions) {
  const users = new Map();
  for (const session of [...sessions].reverse()) users.set(session.user, [...(users.get(session.user) ?? []), session]);
  return [...users];
}

function UserHead({ user, count, suspended, onAct }) {
  return html`
    <div class="user-head">
      <h3>${user} <span class="muted">${suspended === null ? plural(count, "session") : suspendedWords(suspended)}</span></h3>
      <span class="buttons">
        ${suspended === null
          ? html`<button type="button" class="small danger" aria-label="Suspend ${user}" onClick=${() => onAct(suspend(user))}>Suspend</button>`
          : html`<button type="button" class="small" aria-label="Let in again: ${user}" onClick=${() => onAct(liftSuspension(user))}>Let in again</button>`}
        <button type="button" class="small danger" aria-label="Revoke all tokens of ${user}" onClick=${() => onAct(revokeUser(user))}>Revoke all tokens</button>
      </span>
    </div>
  `;
}

const FOR_EVER = 2 ** 53;
const suspendedWords = (until) => (until >= FOR_EVER ? "suspended for good" : `suspended until ${new Date(until).toLocaleString()}`);

function Row({ session, ops, onAct }) {
  const { session: id, user, node, namespace, transport, opened_at: opened, expires_at: ends, renewals, jti } = session;
  const now = ops.tide.now();
  const gone = ops.watch.stats !== null && !(node in ops.watch.stats.nodes);
  const own = id === ops.link.session;
  return html`
    <li class="row" data-session=${id}>
      <span class="row-words">
        <span>${node}${gone ? " (not there)" : ""}, ${transport}${namespace === "/" ? "" : `, ${namespace}`}${own ? ", this page" : ""}</span>
        <span class="muted">
          for ${lasting(now - opened)}, token ${ends > now ? `ends in ${lasting(ends - now)}` : "has ended"}${renewals > 0 ? `, renewed ${plural(renewals, "time")}` : ""}
        </span>
        <code class="muted">${id}</code>
      </span>
      <span class="buttons">
        ${jti && html`<button type="button" class="small" aria-label="Revoke token of ${user} on ${node}" onClick=${() => onAct(revokeToken(jti))}>Revoke token</button>`}
        <button type="button" class="small" aria-label="Disconnect ${user} on ${node}" onClick=${() => onAct(disconnect(session))}>Disconnect</button>
      </span>
    </li>
  `;
}

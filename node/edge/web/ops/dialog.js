/** Asks before it acts: what will be touched, by name and number; then what has become of it. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { explain, plural } from "../words.js";
import { Until, untilOf } from "./until.js";
import { places, secondOf } from "./words.js";

const PATIENCE = 2_000; // a withdrawal reaches every node within a second
const LOOK_EVERY = 200;

/**
 * @param {{ops: import("./link.js").Ops, action: import("./actions.js").Action, onClose: () => void}} props
 */
export function ActionDialog({ ops, action, onClose }) {
  const dialog = useRef();
  const cancel = useRef();
  const [touched, setTouched] = useState(action.filter === null ? { total: action.count, nodes: {}, ids: [] } : null);
  const [lasting, setLasting] = useState({ choice: "good", moment: "" });
  const [step, setStep] = useState({ name: "asking" }); // asking, acting, done {text}; `failed` beside asking
  const look = () => {
    setStep({ name: "asking" });
    touchedBy(ops, action).then(setTouched, (error) => setStep({ name: "asking", failed: `What it would touch is not known: ${explain(error)}` }));
  };
  useLayoutEffect(() => {
    dialog.current.showModal();
    cancel.current.focus();
  }, []);
  useEffect(() => {
    if (action.filter !== null) look();
  }, []);
  useLayoutEffect(() => {
    if (step.name === "done") cancel.current.focus();
  }, [step.name]);
  const until = action.lasts ? untilOf(lasting, ops.tide.now()) : null;
  const act = async (event) => {
    event.preventDefault();
    if (touched === null) return look();
    setStep({ name: "acting" });
    try {
      const text = await carryOut(ops, action, touched, until);
      return setStep({ name: "done", text });
    } catch (error) {
      return setStep({ name: "asking", failed: failure(error) });
    }
  };
  const done = step.name === "done";
  return html`
    <dialog ref=${dialog} class="dialog" aria-labelledby="action-title" aria-describedby="action-touches" onClose=${onClose}>
      <form onSubmit=${act}>
        <h2 id="action-title">${action.title}</h2>
        <p id="action-touches" class="touches" data-test="touches">${done ? step.text : `${words(touched, action, ops)}${touched === null ? "" : "."}`}</p>
        ${!done && html`<ul class="effects">${action.effects.map((effect) => html`<li key=${effect}>${effect}</li>`)}</ul>`}
        ${!done && action.lasts && html`<${Until} value=${lasting} onChange=${setLasting} />`}
        ${step.failed && html`<p class="error" role="alert">${step.failed}</p>`}
        <p class="sr-only" role="status">${done ? step.text : step.name === "acting" ? "Being done" : ""}</p>
        <div class="actions">
          <button ref=${cancel} type="button" class=${done ? "primary" : "quiet"} onClick=${() => dialog.current.close()}>${done ? "Close" : "Cancel"}</button>
          ${!done &&
          html`<button type="submit" class="primary act" disabled=${step.name === "acting" || (touched === null && !step.failed) || until === undefined}>
            ${step.name === "acting" ? "Being done…" : touched === null ? "Look again" : action.verb}
          </button>`}
        </div>
      </form>
    </dialog>
  `;
}

/** Which sessions an action would end: how many, on which nodes, and the newest of them by their ids. */
async function touchedBy(ops, action) {
  const { total, nodes, sessions } = await ops.ask("sessions", action.filter);
  return { total, nodes, ids: sessions.map(({ session }) => session) };
}

/** "Ends 12 sessions of ann on n1 (7), n2 (5)". */
function words(touched, action, ops) {
  if (touched === null) return "Looking what it would touch…";
  const { total, nodes } = touched;
  if (action.whose === "") return "Touches no session";
  if (total === 0) return `Ends no session now: none ${action.whose} is open`;
  const gone = Object.keys(nodes).filter((node) => !(node in ops.watch.stats.nodes));
  const where = Object.keys(nodes).length === 0 ? "" : ` on ${places(nodes)}`;
  return `Ends ${plural(total, "session")} ${action.whose}${where}${gone.length === 0 ? "" : `; ${gone.join(", ")} is not there now`}`;
}

/** Does it, looks what has become of the sessions, and says so; throws what the command was refused with. */
async function carryOut(ops, action, touched, until) {
  await ops.ask(action.name, action.fields(until));
  const text = action.filter === null ? done(action, touched) : await ended(ops, action, touched);
  ops.note(`${action.title}: ${text}`);
  return text;
}

function done(action, { total }) {
  if (action.name !== "drain") return "Done.";
  return total === 0 ? "It drains." : `It drains: ${plural(total, "session")} of it ${total === 1 ? "is" : "are"} told to come back elsewhere.`;
}

async function ended(ops, action, { total, nodes, ids }) {
  if (total === 0) return "Done. No session was open.";
  const before = new Set(ids);
  const end = Date.now() + PATIENCE;
  for (;;) {
    const now = await touchedBy(ops, action).catch(() => null);
    if (now === null) return "Done. What has become of the sessions is not known: the connection was lost.";
    const left = now.ids.filter((id) => before.has(id)).length;
    if (left === 0) return `Done: ${plural(total, "session")} ended on ${places(nodes)}.`;
    if (Date.now() > end) return `Done, but ${left.toLocaleString()} of ${plural(total, "session")} ${left === 1 ? "is" : "are"} still open in the log, on ${places(now.nodes)}.`;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
}

function failure(error) {
  if (error.code === "unavailable") return `Not known to be done: ${error.message}.`; // it may have been on its way
  if (error.code === "lost" || error.code === "timeout") return `${explain(error)} Nobody knows whether it was done: look before you do it again (${secondOf(Date.now())}).`;
  return `Not done: ${explain(error)}`;
}

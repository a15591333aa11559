/** The operator's page: the door, and behind it the cluster. */

import { TokenClock } from "./clock.js";
import { Credentials } from "./credentials.js";
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Logo } from "./logo.js";
import { Nodes } from "./nodes.js";
import { Ahead } from "./ops/ahead.js";
import { concerns } from "./ops/concerns.js";
import { ActionDialog } from "./ops/dialog.js";
import { Handshakes } from "./ops/handshakes.js";
import { Ops } from "./ops/link.js";
import { LogPositions, Outboxes } from "./ops/log.js";
import { NodeCards } from "./ops/nodes.js";
import { Sessions } from "./ops/sessions.js";
import { lasting, secondOf } from "./ops/words.js";
import { NewToken, SignIn } from "./signin.js";
import { Strip } from "./strip.js";
import { plural } from "./words.js";

const STALE = 3_500; // ms without word from the cluster: stats come every second
const TITLE = "Tidegate operations";
const DOOR = {
  title: TITLE,
  keep: "tidegate.operator",
  scope: "chat admin",
  button: "Sign in as developer",
  hint: "The token needs the scope admin. It stays in this page's memory: a reload asks for it again.",
};

function App({ config, nodes }) {
  const [ops, setOps] = useState(null);
  const [why, setWhy] = useState(null);
  const [pasted, setPasted] = useState(false);
  const [credentials, setCredentials] = useState(() => Credentials.kept(nodes.urls, DOOR));
  useEffect(() => {
    if (credentials === null) return undefined;
    if (credentials.token === undefined) credentials.keep(); // a name: what was pasted is not for a store
    const started = new Ops({ nodes, getToken: credentials.getToken });
    setOps(started);
    return () => started.close();
  }, [credentials]);
  const enter = (given) => {
    setWhy(null);
    setPasted(given.token !== undefined);
    setCredentials(new Credentials({ ...given, urls: nodes.urls, kind: DOOR }));
  };
  const leave = (reason = null) => {
    Credentials.forget(DOOR);
    setOps(null);
    setCredentials(null);
    setWhy(reason);
    document.title = TITLE;
  };
  if (credentials === null) {
    return html`<${SignIn} config=${config} ttl=${3_600} name="operator" why=${why} door=${DOOR} pasted=${pasted} onEnter=${enter} />`;
  }
  return ops && html`<${Shell} ops=${ops} credentials=${credentials} onLeave=${leave} />`;
}

function Shell({ ops, credentials, onLeave }) {
  const [, redraw] = useState(0);
  const [action, setAction] = useState(null);
  const [done, setDone] = useState(0);
  useKeptFocus();
  useLayoutEffect(() => ops.subscribe(() => redraw((count) => count + 1)), [ops]); // an effect would miss the first changes
  useEffect(() => {
    const timer = setInterval(() => redraw((count) => count + 1), 1_000); // ages go on while nothing comes
    return () => clearInterval(timer);
  }, []);
  const never = ops.watch.stats === null;
  useEffect(() => {
    if (ops.refused !== null) onLeave(ops.refused);
    else if (ops.signIn !== null && never && credentials.token !== undefined) onLeave(ops.signIn);
  }, [ops.refused, ops.signIn]);
  const freshToken = (token) => {
    credentials.token = token;
    ops.signIn = null;
    ops.tide.retry();
    ops.changed();
  };
  const close = () => {
    setAction(null);
    setDone(done + 1);
  };
  return html`
    <div class="ops">
      <${Head} ops=${ops} onSignOut=${() => onLeave()} />
      <${Strip} chat=${ops} />
      ${never ? html`<main class="ops-main"><p class="empty">Waiting for the cluster…</p></main>` : html`<${Cluster} ops=${ops} done=${done} onAct=${setAction} />`}
      ${action && html`<${ActionDialog} ops=${ops} action=${action} onClose=${close} />`}
      ${ops.signIn && !never && html`<${NewToken} why=${ops.signIn} onToken=${freshToken} onLeave=${() => onLeave()} />`}
      <p class="sr-only" role="status" aria-live="polite" data-test="said">${ops.said}</p>
    </div>
  `;
}

/** Where what had the focus is gone, a button with its session say, the focus goes to the head of its section. */
function useKeptFocus() {
  const had = useRef({ element: null, section: null });
  useEffect(() => {
    const seen = ({ target }) => (had.current = { element: target, section: target.closest("section") ?? had.current.section });
    document.addEventListener("focusin", seen);
    return () => document.removeEventListener("focusin", seen);
  }, []);
  useLayoutEffect(() => {
    const { element, section } = had.current;
    if (element === null || element.isConnected || document.activeElement !== document.body) return;
    const head = section?.querySelector("h2");
    if (!head?.isConnected) return;
    head.tabIndex = -1;
    head.focus();
  });
}

function Head({ ops, onSignOut }) {
  const { state, node } = ops.link;
  return html`
    <header class="ops-head">
      <${Logo} />
      <h1>${TITLE}</h1>
      <span class="ops-where" data-test="where">${state === "connected" ? html`on <b data-test="node">${node}</b>` : "not connected"}</span>
      <${TokenClock} chat=${ops} />
      <button type="button" class="small" onClick=${onSignOut}>Sign out</button>
    </header>
  `;
}

function Cluster({ ops, done, onAct }) {
  const { watch } = ops;
  const now = Date.now();
  const old = now - watch.at > STALE;
  return html`
    <main class=${old ? "ops-main is-old" : "ops-main"}>
      ${old && html`<p class="old" data-test="old">What stands here is ${lasting(now - watch.at)} old, of ${secondOf(watch.at)}.</p>`}
      <${Attention} found=${concerns(watch, now)} watch=${watch} now=${now} />
      <${Ahead} stats=${watch.stats} />
      <${NodeCards} watch=${watch} now=${now} here=${ops.link.node} onAct=${onAct} />
      <div class="column">
        <${Handshakes} watch=${watch} now=${now} />
        <${Outboxes} watch=${watch} onAct=${onAct} />
      </div>
      <div class="column">
        <${Sessions} ops=${ops} done=${done} onAct=${onAct} />
        <${LogPositions} watch=${watch} now=${now} />
      </div>
      <${Notes} notes=${ops.notes} />
    </main>
  `;
}

/** What wants to be looked at, the gravest first; said aloud when it changes. */
function Attention({ found, watch, now }) {
  const { stats } = watch;
  const nodes = Object.values(stats.nodes);
  const ready = nodes.filter((node) => node.ready).length;
  const ended = watch.nodes(now).filter(({ drained }) => drained).map(({ name }) => name);
  const size = `${plural(stats.sessions, "session")} on ${plural(nodes.length, "node")}, ${ready} ready${ended.length > 0 ? `; drained and ended: ${ended.join(", ")}` : ""}.`;
  const tone = found[0]?.tone ?? "good";
  const [said, say] = useState("");
  useEffect(() => {
    document.title = found.length === 0 ? TITLE : `(${found.length}) ${TITLE}`;
    say(found.length === 0 ? "All is well" : found.map(({ text }) => text).join(" "));
  }, [found.map(({ key }) => key).join()]); // its figures change every second
  return html`
    <section class="attention attention-${tone}" aria-labelledby="attention-title" data-test="attention">
      <h2 id="attention-title">${found.length === 0 ? "All is well" : "Look at this"}</h2>
      <p>${size}</p>
      <p class="sr-only" role="status">${said}</p>
      <ul class="plain">${found.map((one) => html`<li key=${one.key} class="concern concern-${one.tone}">${one.text}</li>`)}</ul>
    </section>
  `;
}

function Notes({ notes }) {
  return (
    notes.length > 0 &&
    html`
      <section class="panel wide" aria-labelledby="notes-title">
        <header class="panel-head"><h2 id="notes-title">Done from this page</h2></header>
        <ol class="plain journal" data-test="notes">
          ${notes.map(({ at, text }) => html`<li key=${at} class="entry"><time>${secondOf(at)}</time><span>${text}</span></li>`)}
        </ol>
      </section>
    `
  );
}

async function start() {
  const config = await (await fetch("/config.json")).json();
  const urls = [...new Set([location.origin, ...config.peers.map((url) => new URL(url).origin)])];
  const nodes = new Nodes(urls);
  nodes.learn(location.origin, config.node);
  document.title = TITLE;
  render(html`<${App} config=${config} nodes=${nodes} />`, document.getElementById("page"));
}

start();

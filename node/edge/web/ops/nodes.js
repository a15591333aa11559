/** The nodes, each on a card: how it is, what it carries, and the button that drains it. */

import { html } from "../html.js";
import { plural } from "../words.js";
import { drain } from "./actions.js";
import { bytes, delay, lasting, rate } from "./words.js";

export function NodeCards({ watch, now, here, onAct }) {
  const nodes = watch.nodes(now);
  return html`
    <section class="panel wide" aria-labelledby="nodes-title">
      <header class="panel-head"><h2 id="nodes-title">Nodes</h2></header>
      <ul class="plain cards">
        ${nodes.map((node) => html`<${Card} key=${node.name} node=${node} watch=${watch} here=${here} onAct=${onAct} />`)}
      </ul>
    </section>
  `;
}

function Card({ node, watch, here, onAct }) {
  const { name, state } = node;
  const { tone, words, reasons } = condition(node);
  return html`
    <li class="card card-${tone}" data-node=${name}>
      <header class="card-head">
        <h3>${name}${name === here ? html` <span class="muted">this page is on it</span>` : ""}</h3>
        <span class="pill pill-${tone}" data-test="condition">${words}</span>
      </header>
      ${reasons.map((reason) => html`<p key=${reason} class="reason">${reason}</p>`)}
      ${node.here && html`<${Facts} state=${state} watch=${watch} />`}
      ${node.here &&
      html`<button type="button" class="small" disabled=${"draining" in (state.not_ready ?? {})} onClick=${() => onAct(drain(name, watch.stats, here))}>Drain ${name}</button>`}
    </li>
  `;
}

/** How a node is, in a word, and why. */
function condition({ state, here, silent, drained }) {
  if (!here && drained) return { tone: "ended", words: "ended", reasons: [`It drained, and was heard last ${lasting(silent)} ago.`] };
  if (!here) return { tone: "bad", words: "gone", reasons: [`Not heard for ${lasting(silent)}.`] };
  const notReady = Object.entries(state.not_ready ?? {});
  const draining = notReady.some(([reason]) => reason === "draining");
  if (notReady.length === 0) return { tone: "good", words: "ready", reasons: [] };
  return { tone: draining ? "wait" : "bad", words: draining ? "draining" : "not ready", reasons: notReady.map(([reason, why]) => `${reason}: ${why}`) };
}

function Facts({ state, watch }) {
  const { websocket = 0, polling = 0 } = state.connections ?? {};
  const facts = [
    ["sessions", state.sessions.toLocaleString()],
    ["by WebSocket", websocket.toLocaleString()],
    ["by long-polling", polling.toLocaleString()],
    ["lets in", `${rate(state.handshake_capacity_per_second)} / s`],
    ["log", logWords(state)],
    ["event loop", `lag up to ${delay(state.loop_lag_seconds ?? 0)}`],
    ["unsent", `${bytes(state.outbox_bytes ?? 0)}${state.slow_sockets > 0 ? `, ${plural(state.slow_sockets, "slow socket")}` : ""}`],
    ["up", state.started_at === undefined ? "?" : lasting(watch.stats.at - state.started_at)],
    ["version", state.version],
  ];
  return html`
    <dl class="facts">
      ${facts.map(([what, value]) => html`<div key=${what}><dt>${what}</dt><dd>${value}</dd></div>`)}
    </dl>
  `;
}

/** Whether the log can be reached, how far behind it the node is, and the canary's way through the broker, where there is one. */
function logWords({ log_up: up, lag_seconds: lag = 0, canary_seconds: canary, unrecorded = 0 }) {
  const waiting = unrecorded > 0 ? `, ${unrecorded.toLocaleString()} waiting` : "";
  if (up === false) return `away${waiting}`;
  return `up, lag ${delay(lag)}${typeof canary === "number" ? `, canary ${delay(canary)}` : ""}${waiting}`;
}

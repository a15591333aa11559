/** Who knocks and what becomes of it: handshakes by outcome and code, renewals, ends of sessions. */

import { html } from "../html.js";
import { Bars } from "./bars.js";
import { round } from "./outlook.js";
import { lasting, rate, secondOf } from "./words.js";

const OUTCOMES = [
  ["accepted", "good", "let in"],
  ["refused", "bad", "refused"],
  ["busy", "wait", "sent away for now"],
];
const COLUMN = 2_000; // ms: nodes tell once a second, each at its own moment
const COLUMNS = 60;

export function Handshakes({ watch, now }) {
  const { stats } = watch;
  const line = watch.timeline("handshakes", now, { width: COLUMN, columns: COLUMNS });
  const perSecond = ({ counts }, outcome) => ((counts[outcome] ?? 0) * 1_000) / COLUMN;
  const columns = line.map((column) => ({
    key: column.at,
    parts: OUTCOMES.map(([outcome, tone]) => ({ value: perSecond(column, outcome), tone })),
    title: `${secondOf(column.at)}: ${OUTCOMES.map(([outcome, , words]) => `${rate(perSecond(column, outcome))} a second ${words}`).join(", ")}`,
  }));
  const most = Math.max(...columns.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0)));
  const rates = watch.rates("handshakes", now);
  const said = OUTCOMES.map(([outcome, , words]) => `${rate(rates[outcome] ?? 0)} a second ${words}`).join(", ");
  const times = [0, 15, 30, 45].map((place) => ({ place, text: `−${lasting((COLUMNS - place) * COLUMN)}` }));
  return html`
    <section class="panel" aria-labelledby="handshakes-title">
      <header class="panel-head"><h2 id="handshakes-title">Handshakes</h2></header>
      <p data-test="handshake-rates">${said}.</p>
      <${Bars}
        label="Handshakes a second over the last two minutes, by outcome. Now: ${said}. The table below has the codes."
        columns=${columns}
        top=${round(Math.max(4, most))}
        height=${130}
        times=${times}
      />
      <ul class="plain legend">
        ${OUTCOMES.map(([outcome, tone, words]) => html`<li key=${outcome}><i class="key tone-${tone}"></i>${words}</li>`)}
      </ul>
      <${Counts} title="Turned away, by code" first="Code" counts=${stats.handshake_codes} rates=${watch.rates("handshake_codes", now)} none="Nobody was turned away." />
      <${Counts} title="Renewals on open sockets" first="Outcome" counts=${stats.renewals} rates=${watch.rates("renewals", now)} none="No token was renewed." />
      <${Counts} title="Sessions ended" first="Reason" counts=${stats.session_ends} rates=${watch.rates("session_ends", now)} none="No session has ended." />
    </section>
  `;
}

/** Counters by name: how often a second lately, and since the nodes' starts; the most first. */
function Counts({ title, first, counts = {}, rates, none }) {
  const names = Object.keys(counts).sort((a, b) => counts[b] - counts[a] || a.localeCompare(b));
  return html`
    <h3>${title}</h3>
    ${names.length === 0
      ? html`<p class="hint">${none}</p>`
      : html`
          <table class="counts" aria-label=${title}>
            <thead>
              <tr><th scope="col">${first}</th><th scope="col">a second</th><th scope="col">since the start</th></tr>
            </thead>
            <tbody>
              ${names.map(
                (name) => html`
                  <tr key=${name}>
                    <th scope="row"><code>${name}</code></th>
                    <td>${rate(rates[name] ?? 0)}</td>
                    <td>${counts[name].toLocaleString()}</td>
                  </tr>
                `,
              )}
            </tbody>
          </table>
        `}
  `;
}

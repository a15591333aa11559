/** The cliff, seen before it comes: how many sessions end when, against what the cluster can let in. */

import { html, useState } from "../html.js";
import { Bars } from "./bars.js";
import { SPANS, buckets, gravity, outlook, top, worst } from "./outlook.js";
import { lasting, rate, secondOf } from "./words.js";

const MOST_ROWS = 20;

export function Ahead({ stats }) {
  const [chosen, choose] = useState(SPANS[0].name);
  const span = SPANS.find(({ name }) => name === chosen);
  const { forecast, handshake_capacity_per_second: capacity, at } = stats;
  const found = buckets(forecast, span);
  const peak = Math.max(...found.map((bucket) => bucket.peak));
  const renewalsPeak = Math.max(...found.map((bucket) => bucket.renewalsPeak));
  const { tone, text } = outlook(stats);
  const columns = found.map((bucket) => ({
    key: bucket.at,
    parts: [{ value: bucket.peak, tone: gravity(bucket.peak, capacity) === "good" ? "accent" : gravity(bucket.peak, capacity) }],
    over: bucket.renewalsPeak,
    title: `${secondOf(bucket.at)}: ${sentence(bucket)}`,
  }));
  const times = [0, 1 / 4, 1 / 2, 3 / 4].map((part) => ({
    place: part * found.length,
    text: part === 0 ? "now" : `+${lasting(part * found.length * span.width)}`,
  }));
  return html`
    <section class="panel wide" aria-labelledby="ahead-title">
      <header class="panel-head">
        <h2 id="ahead-title">Sessions ending ahead</h2>
        <fieldset class="spans">
          <legend class="sr-only">How far ahead</legend>
          ${SPANS.map(
            ({ name, title }) => html`
              <label key=${name}>
                <input class="sr-only" type="radio" name="span" checked=${name === chosen} onChange=${() => choose(name)} />
                <span>${title}</span>
              </label>
            `,
          )}
        </fieldset>
      </header>
      <p class="outlook outlook-${tone}" data-test="outlook">${text}</p>
      <${Bars}
        label="Sessions that end in one second, over the next ${span.title}, against ${rate(capacity)} that can come back in a second. ${text} The table below has the figures."
        columns=${columns}
        top=${top(Math.max(peak, renewalsPeak), capacity)}
        mark=${{ value: capacity, text: `can come back: ${rate(capacity)} a second` }}
        times=${times}
        figure=${true}
      />
      <ul class="plain legend">
        <li><i class="key tone-accent"></i>sessions ending${span.width > 1_000 ? ", in the worst second of each bar" : ""}</li>
        <li><i class="key tone-wait"></i>over half of what can come back</li>
        <li><i class="key tone-bad"></i>more than can come back</li>
        <li><i class="key key-line"></i>renewals planned</li>
      </ul>
      <${Figures} found=${found} />
      <${Totals} stats=${stats} />
    </section>
  `;
}

const sentence = ({ ends, peak, renewals, width }) =>
  `${ends.toLocaleString()} end${width > 1_000 ? `, at most ${peak.toLocaleString()} in one second` : ""}, ${renewals.toLocaleString()} renewals planned`;

function Figures({ found }) {
  const all = found.filter(({ ends, renewals }) => ends > 0 || renewals > 0);
  return html`
    <details>
      <summary>As a table</summary>
      <div class="scroll" role="region" aria-label="Sessions ending ahead, as a table" tabindex="0">
        <table>
          <thead>
            <tr><th scope="col">From</th><th scope="col">End</th><th scope="col">Most in one second</th><th scope="col">Renewals planned</th></tr>
          </thead>
          <tbody>
            ${all.slice(0, MOST_ROWS).map(
              ({ at, ends, peak, renewals }) => html`
                <tr key=${at}>
                  <th scope="row">${secondOf(at)}</th>
                  <td>${ends.toLocaleString()}</td>
                  <td>${peak.toLocaleString()}</td>
                  <td>${renewals.toLocaleString()}</td>
                </tr>
              `,
            )}
            ${all.length === 0 && html`<tr><td colspan="4">Nothing ends and nothing is renewed in this time.</td></tr>`}
          </tbody>
        </table>
      </div>
      ${all.length > MOST_ROWS && html`<p class="hint">And ${all.length - MOST_ROWS} later ones.</p>`}
    </details>
  `;
}

/** How many end within each time, whatever the chart shows. */
function Totals({ stats }) {
  const most = worst(stats.forecast)?.peak ?? 0;
  return html`
    <dl class="facts facts-row">
      ${Object.entries(stats.expiring).map(([within, count]) => html`<div key=${within}><dt>in ${within}</dt><dd>${count.toLocaleString()}</dd></div>`)}
      <div><dt>most in one second</dt><dd>${most.toLocaleString()}</dd></div>
      <div><dt>renewals, highest rate</dt><dd>${rate(stats.renewal_peak_per_second)} / s</dd></div>
    </dl>
  `;
}

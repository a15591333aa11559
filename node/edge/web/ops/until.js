/** Until when something lasts: for good, for a time, or until a moment. */

import { html } from "../html.js";

const CHOICES = [
  ["good", "for good", null],
  ["hour", "for an hour", 3_600_000],
  ["day", "for a day", 86_400_000],
  ["week", "for a week", 604_800_000],
  ["moment", "until a moment", undefined],
];

/** @returns {number | null | undefined} a moment in ms; null for good; undefined where the moment is none, or is over */
export function untilOf({ choice, moment }, now) {
  const [, , span] = CHOICES.find(([name]) => name === choice);
  if (span !== undefined) return span === null ? null : Math.round(now + span);
  const at = new Date(moment).getTime();
  return at > now ? at : undefined;
}

export function Until({ value, onChange }) {
  return html`
    <label>
      How long
      <select value=${value.choice} onChange=${(event) => onChange({ ...value, choice: event.target.value })}>
        ${CHOICES.map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}
      </select>
    </label>
    ${value.choice === "moment" &&
    html`<label>
      Day and time
      <input type="datetime-local" required value=${value.moment} onInput=${(event) => onChange({ ...value, moment: event.target.value })} />
    </label>
    <p class="hint">By the clock of this computer; a moment that lies ahead.</p>`}
  `;
}

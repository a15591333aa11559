/** The life of the token: a ring that empties, and what is left in figures. */

import { classes, html, useEffect, useState } from "./html.js";
import { countdown } from "./words.js";

const ROUND = 2 * Math.PI * 15;

export function TokenClock({ chat }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, []);
  const { expires_at, issued, state } = chat.link;
  const left = expires_at === null ? 0 : Math.max(0, expires_at - chat.tide.now());
  const part = expires_at === null ? 0 : Math.min(1, left / Math.max(1, expires_at - issued));
  const here = state === "connected";
  return html`
    <span class=${classes("clock", here && left < 15_000 && "clock-low", !here && "clock-off")} key=${chat.journal.renewals}>
      <svg viewBox="0 0 36 36" aria-hidden="true">
        <circle class="clock-track" cx="18" cy="18" r="15" />
        <circle class="clock-left" cx="18" cy="18" r="15" stroke-dasharray=${ROUND} stroke-dashoffset=${ROUND * (1 - part)} />
      </svg>
      <span class="clock-figures" data-test="countdown">${here ? countdown(left) : "–:––"}</span>
      <span class="sr-only">left of the token</span>
    </span>
  `;
}

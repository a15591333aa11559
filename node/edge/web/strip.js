/** The strip at the head of a page: what its connection is doing; gone when all is well. */

import { classes, html, useEffect, useState } from "./html.js";

/**
 * @param {{chat: object, held?: string | null}} props whoever has a `journal`, a `link` and a `tide`; and in words what is not well
 *   although there is a connection
 */
export function Strip({ chat, held = null }) {
  const { strip } = chat.journal;
  const [, tick] = useState(0);
  useEffect(() => {
    if (strip === null) return undefined;
    const timer = setInterval(() => tick((count) => count + 1), 200);
    return () => clearInterval(timer);
  }, [strip]);
  const over = strip === null || (strip.fades && (held !== null || Date.now() - strip.at > 8_000));
  if (over && held !== null) return html`<div class="strip strip-calm" data-test="strip"><span>${held}</span></div>`;
  if (over) return html`<div class="strip" hidden></div>`;
  const left = strip.until === null ? 0 : Math.max(0, strip.until - Date.now());
  const waiting = chat.link.state === "reconnecting" && left > 400; // a shorter one is not worth a figure
  const trying = !waiting && ["connecting", "reconnecting"].includes(chat.link.state);
  return html`
    <div class=${classes("strip", `strip-${strip.tone}`)} data-test="strip">
      <span>${strip.text}${waiting ? ` in ${Math.ceil(left / 1_000)} s` : trying ? " now…" : ""}</span>
      ${waiting && left > 1_500 && html`<button type="button" class="link" onClick=${() => chat.tide.retry()}>Now</button>`}
      ${chat.link.state === "refused" && html`<button type="button" class="link" onClick=${() => chat.tide.retry()}>Try again</button>`}
    </div>
  `;
}

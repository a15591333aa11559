/** The page's pictures: 24 by 24, drawn in the colour of the text. */

import { html } from "./html.js";

const PATHS = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20h4L19 9l-4-4L4 16v4zM13 7l4 4",
  leave: "M10 5H5v14h5M15 8l4 4-4 4M19 12H10",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 017 0v3",
  people: "M9 11a3.5 3.5 0 100-7 3.5 3.5 0 000 7zM2.5 20c.4-3.6 3-5.5 6.5-5.5s6.1 1.9 6.5 5.5M16 4.3a3.5 3.5 0 010 6.400M18 14.9c2 .8 3.2 2.5 3.5 5.1",
  plus: "M12 5v14M5 12h14",
  reply: "M10 6l-6 6 6 6M4 12h9c4 0 7 2 7 6",
  search: "M11 18a7 7 0 100-14 7 7 0 000 14zM16 16l4.5 4.5",
  send: "M4 12l16-8-6 16-3-6.500L4 12zM11 13.500L20 4",
  signal: "M2 16c2.5 0 2.5-2 5-2s2.5 2 5 2 2.5-2 5-2 2.5 2 5 2M2 10c2.5 0 2.5-2 5-2s2.5 2 5 2 2.5-2 5-2 2.5 2 5 2",
  smile: "M12 21a9 9 0 100-18 9 9 0 000 18zM8.5 14.500c1.8 2.3 5.2 2.3 7 0M9 9.500v.5M15 9.500v.5",
  talk: "M4 5h16v11h-9l-4.5 4v-4H4z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
};

/** @param {{name: keyof PATHS}} props for the eye only: the button that holds it has the words */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

/** A button that is a picture: `label` is its name. */
export function IconButton({ icon, label, ...rest }) {
  return html`
    <button type="button" class="icon-button" aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>
  `;
}

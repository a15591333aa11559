/** A person as a disc: initials on a colour of their own. */

import { classes, html } from "./html.js";
import { hueOf, initials } from "./words.js";

export function Avatar({ name, online, small }) {
  const presence = online === undefined ? false : online ? "is-online" : "is-offline";
  const look = classes("avatar", `hue-${hueOf(name)}`, small && "avatar-small", presence);
  return html`<span class=${look} aria-hidden="true">${initials(name)}</span>`;
}

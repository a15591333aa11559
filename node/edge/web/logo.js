/** The sign over the door: a gate with the tide in it. */

import { html } from "./html.js";

export function Logo() {
  return html`
    <svg class="logo" viewBox="0 0 48 48" aria-hidden="true">
      <path class="logo-gate" d="M8 42V20a16 16 0 0132 0v22" />
      <path class="logo-tide" d="M14 30c3.3 0 3.3-3 6.7-3s3.3 3 6.6 3 3.3-3 6.7-3M14 38c3.3 0 3.3-3 6.7-3s3.3 3 6.6 3 3.3-3 6.7-3" />
    </svg>
  `;
}

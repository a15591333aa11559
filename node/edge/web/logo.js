/** The sign over the door: a gate with the tide in it. */

import { html } from "./html.js";

export function Logo() {
  return html`
    <svg class="logo" viewBox="0 0 48 48" aria-hidden="true">
      <path class="logo-gate" d="M8 42V20a16 16 0 0132 0v22" />
      <path class="logo-tide" d="M14 30c3.300 0 3.300-3 6.700-3s3.300 3 6.600 3 3.300-3 6.700-3M14 38c3.300 0 3.300-3 6.700-3s3.300 3 6.600 3 3.300-3 6.700-3" />
    </svg>
  `;
}

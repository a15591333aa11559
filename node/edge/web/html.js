/** Preact with tagged templates instead of a build step: whatever is put into a template becomes an attribute or a text node, never markup. */

import { h } from "./vendor/preact.module.js";
import htm from "./vendor/htm.module.js";

export { render } from "./vendor/preact.module.js";
export { useEffect, useLayoutEffect, useRef, useState } from "./vendor/hooks.module.js";

export const html = htm.bind(h);

/** Class names from those that hold. */
export function classes(...names) {
  return names.filter(Boolean).join(" ");
}

/** What happened to the connection, in words: the strip above the messages and the list in the connection pane. */

import { span } from "./words.js";

const KEPT = 40;

export class Journal {
  /** The newest first: {at, text, tone: "good" | "calm" | "bad"}. */
  entries = [];
  /** What the strip says now, or null. */
  strip = null;
  renewals = 0;
  #node = null; // the last one we were on
  #cause = null; // why that ended

  /** @returns {string | null} what is worth saying aloud */
  take(status, now = Date.now()) {
    const said = this.#words(status);
    if (said === null) return null;
    const entry = { at: now, ...said };
    this.entries = [entry, ...this.entries].slice(0, KEPT);
    this.strip = said.strip ? { ...entry, until: said.wait === undefined ? null : now + said.wait, fades: said.fades ?? false } : this.strip;
    return said.strip ? said.text : null;
  }

  #words(status) {
    switch (status.state) {
      case "connected":
        this.#node = status.node;
        return { text: `On ${status.node}, token good for ${span(status.expires_at - status.server_time)}`, tone: "good" };
      case "caught-up":
        return this.#caughtUp(status);
      case "renewed":
        this.renewals += 1;
        return { text: "Token renewed in place", tone: "good" };
      case "expired":
        this.#cause = "The token ended";
        return { text: "The token ended, and the connection with it", tone: "calm" };
      case "draining":
        this.#cause = `${this.#node} is shutting down`;
        return { text: `${this.#node} is shutting down`, tone: "calm" };
      case "reconnecting":
        return this.#reconnecting(status);
      case "sign-in":
        return { text: status.open ? "The token cannot be renewed" : "Signed out: the token was not accepted", tone: "bad" };
      case "refused":
        return { text: `Refused: ${status.message}`, tone: "bad", strip: true };
      case "reset":
        return { text: `The log of ${status.room} is another one: it starts over`, tone: "bad" };
      default:
        return null;
    }
  }

  #caughtUp({ total, away }) {
    this.#cause = null;
    if (away === null) {
      this.strip = null;
      return null;
    }
    const missed = total === 0 ? "nothing missed" : `${total.toLocaleString()} missed, caught up`;
    return { text: `Back on ${this.#node} after ${span(away)}: ${missed}`, tone: "good", strip: true, fades: true };
  }

  #reconnecting({ wait, url, code }) {
    if (code === "moved") this.#cause ??= `Leaving ${this.#node}`;
    else if (code === "server_busy") this.#cause = "The node is not ready";
    else this.#cause ??= this.#node === null ? "No node answers" : `Lost ${this.#node}`;
    return { text: `${this.#cause}. Trying ${new URL(url).host}`, tone: "calm", strip: true, wait };
  }
}

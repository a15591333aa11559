/** What happened to the connection, in words: the strip above the messages and the list in the connection pane. */

import { span } from "./words.js";

const KEPT = 40;
const SILENT = ["lost", "timeout"]; // nobody was there; any other code is a node's answer

export class Journal {
  /** The newest first: {at, text, tone: "good" | "calm" | "bad"}. */
  entries = [];
  /** What the strip says now, or null: {at, text, tone, until, fades}. */
  strip = null;
  renewals = 0;
  #node = null; // the last one we were on
  #on = false; // whether we are on it
  #cause = null; // why that ended
  #told = null; // the cause that has its entry
  #rounds = 0; // how often every node has been asked in vain
  #codes = []; // what those said that were asked in this round

  /** @param {(url: string) => string} nameOf what to call a node */
  constructor(nameOf) {
    this.nameOf = nameOf;
  }

  /** @returns {string | null} what is worth saying aloud */
  take(status, now = Date.now()) {
    const said = this.#words(status);
    if (said === null) return null;
    const { text, tone, strip, wait, fades = false, told = false } = said;
    if (!told) this.entries = [{ at: now, text, tone }, ...this.entries].slice(0, KEPT);
    if (strip === undefined) return null;
    this.strip = strip && { at: now, text: strip, tone, until: wait === undefined ? null : now + wait, fades };
    return told ? null : strip;
  }

  /** `text` is for the list, unless it has been `told`; `strip` for the strip, where null clears it. */
  #words(status) {
    switch (status.state) {
      case "connected":
        this.#connected(status);
        return { text: `On ${status.node}, token good for ${span(status.expires_at - status.server_time)}`, tone: "good" };
      case "caught-up":
        return this.#caughtUp(status);
      case "renewed":
        this.renewals += 1;
        return { text: "Token renewed in place", tone: "good" };
      case "expired":
        this.#cause = this.#told = "The token ended";
        return { text: "The token ended, and the connection with it", tone: "calm" };
      case "draining":
        this.#cause = this.#told = `${this.#node} is shutting down`;
        return { text: this.#cause, tone: "calm" };
      case "reconnecting":
        return this.#reconnecting(status);
      case "sign-in":
        return this.#signIn(status);
      case "refused":
        return { text: `Refused: ${status.message}`, tone: "bad", strip: `Refused: ${status.message}` };
      case "reset":
        return { text: `The log of ${status.room} is another one: it starts over`, tone: "bad" };
      case "held":
        return { text: "The log is away: messages wait", tone: "bad" };
      case "flowing":
        return { text: "The log is back: messages go", tone: "good" };
      default:
        return null;
    }
  }

  #connected({ node }) {
    [this.#node, this.#on] = [node, true];
    [this.#cause, this.#told, this.#rounds, this.#codes] = [null, null, 0, []];
  }

  #caughtUp({ total, away }) {
    if (away === null) {
      this.strip = null;
      return null;
    }
    const missed = total === 0 ? "nothing missed" : `${total.toLocaleString()} missed, caught up`;
    const text = `Back on ${this.#node} after ${span(away)}: ${missed}`;
    return { text, tone: "good", strip: text, fades: true };
  }

  #reconnecting(status) {
    const { wait, url, code, rounds } = status;
    if (code === "token_expired" && this.#cause === null) {
      this.#cause = this.#told = "The token has ended"; // before it had a connection: a fresh one is asked for, and nothing is wrong
      return { text: this.#cause, tone: "calm" };
    }
    const cause = this.#because(status);
    const told = cause === this.#told;
    this.#told = cause;
    const what = rounds > 0 || code === "token_unavailable" ? "again" : this.nameOf(url);
    return { text: cause, tone: "calm", strip: `${cause}. Trying ${what}`, wait, told };
  }

  #because({ code, message, rounds }) {
    if (code === "token_unavailable") return message;
    if (this.#on) this.#on = false; // this was the end of a connection, and no answer to a try
    else this.#codes.push(code);
    if (rounds > this.#rounds) {
      this.#cause = this.#codes.every((one) => SILENT.includes(one)) ? "No node answers" : "No node is ready";
      [this.#rounds, this.#codes] = [rounds, []];
    } else if (code === "moved") this.#cause ??= `Leaving ${this.#node}`;
    else if (code === "server_busy" && rounds === 0) this.#cause = "The node is not ready";
    else this.#cause ??= this.#node === null ? "No answer" : `Lost ${this.#node}`;
    return this.#cause;
  }

  #signIn({ open, code }) {
    if (open) return { text: "The token cannot be renewed", tone: "bad" };
    const text = code === "token_missing" ? "A fresh token is needed" : "Signed out: the token was not accepted";
    return { text, tone: "bad", strip: null };
  }
}

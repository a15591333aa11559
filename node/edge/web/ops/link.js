/** The page's line to the cluster: a session in `/admin`, what comes over it, and what is asked over it. */

import { connect } from "../../tidegate.js";
import { Journal } from "../journal.js";
import { tokenWanted } from "../words.js";
import { Watch } from "./watch.js";

const NOTES = 20;

export class Ops {
  link = { state: "connecting", node: null, url: null, session: null, expires_at: null, issued: null };
  watch = new Watch();
  signIn = null; // in words, why another token is needed; or null
  refused = null; // in words, why this one will never do; or null
  said = ""; // for screen readers
  notes = []; // what was done from here, the newest first: {at, text}
  #listeners = new Set();

  /** @param {{nodes: import("../nodes.js").Nodes, getToken: Function}} options */
  constructor({ nodes, getToken }) {
    this.nodes = nodes;
    this.journal = new Journal((url) => nodes.nameOf(url));
    this.tide = connect({ urls: nodes.urls, getToken, namespace: "/admin" });
    this.tide.on("status", (status) => this.#status(status));
    this.tide.on("stats", (stats) => {
      this.watch.take(stats, Date.now());
      this.changed();
    });
  }

  /** Call `listener` after every change; returns how to stop it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed() {
    for (const listener of this.#listeners) listener();
  }

  close() {
    this.tide.close();
  }

  /** Give a command of `/admin`; rejects with a `CommandError`. */
  ask(name, fields) {
    return this.tide.request(name, fields, { timeout: 6_000 });
  }

  /** Remember what was done. */
  note(text) {
    this.notes = [{ at: Date.now(), text }, ...this.notes].slice(0, NOTES);
    this.changed();
  }

  #status(status) {
    const { state } = status;
    if (state === "caught-up") this.journal.strip = null; // there is nothing to make up for here
    else this.said = this.journal.take(status) ?? this.said;
    if (state === "connected") this.#connected(status);
    if (state === "renewed") Object.assign(this.link, { expires_at: status.expires_at, issued: this.tide.now() });
    if (state === "sign-in") this.signIn = tokenWanted(status, false);
    if (state === "refused") this.refused = `This token is refused: ${status.message} (${status.code}).`;
    if (!["renewed", "caught-up"].includes(state) && !status.open) this.link.state = state;
    this.changed();
  }

  #connected({ node, url, session, expires_at }) {
    this.nodes.learn(url, node);
    this.link = { state: "connected", node, url, session, expires_at, issued: this.tide.now() };
    this.signIn = null;
    this.said = `Connected to ${node}`;
  }
}

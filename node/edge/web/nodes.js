/** The nodes by name, as far as they are known: each says its own. */

export class Nodes {
  #names = new Map(); // url -> name; null where several answer at one address

  /** @param {string[]} urls their origins, as the configuration has them */
  constructor(urls) {
    this.urls = urls;
  }

  /** A node that calls itself `name` has answered at `url`. */
  learn(url, name) {
    const known = this.#names.get(url);
    this.#names.set(url, known === undefined || known === name ? name : null);
  }

  /** "n1", or where that is not known "127.0.0.1:8001". */
  nameOf(url) {
    return this.#names.get(url) ?? new URL(url).host;
  }

  /** "n1 · 127.0.0.1:8001", or where the name is not known the address alone. */
  fullNameOf(url) {
    const { host } = new URL(url);
    const name = this.#names.get(url) ?? null;
    return name === null ? host : `${name} · ${host}`;
  }

  /** Ask those whose names are not known yet; `told` is called for each that answers. */
  ask(told) {
    for (const url of this.urls.filter((one) => !this.#names.has(one))) {
      fetch(new URL("/config.json", url), { signal: AbortSignal.timeout(4_000) })
        .then((response) => response.json())
        .then(({ node }) => (this.learn(url, node), told()))
        .catch(() => {}); // it is away: its address has to do
    }
  }
}

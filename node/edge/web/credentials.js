/** Where this tab's tokens come from: the dev issuer, by name, or a token that someone pasted. */

/** Of the chat page. `keep`: under which name this tab keeps them (two tabs may be two people); `scope`: of the dev issuer's tokens. */
const CHAT = { keep: "tidegate.credentials", scope: undefined };

export class Credentials {
  #given = null; // the last pasted token that was handed out
  #token = null; // {value, expires_at}: the last of the dev issuer's

  /** @param {{user?: string, ttl?: number, token?: string, urls: string[], kind?: {keep: string, scope?: string}}} given */
  constructor({ user, ttl, token, urls, kind = CHAT }) {
    Object.assign(this, { user, ttl, token, urls, kind });
  }

  /** What this tab had before it was reloaded, or null. */
  static kept(urls, kind = CHAT) {
    const kept = sessionStorage.getItem(kind.keep);
    return kept === null ? null : new Credentials({ ...JSON.parse(kept), urls, kind });
  }

  keep() {
    const { user, ttl, token } = this;
    sessionStorage.setItem(this.kind.keep, JSON.stringify({ user, ttl, token }));
  }

  static forget(kind = CHAT) {
    sessionStorage.removeItem(kind.keep);
  }

  /** As tidegate.js wants it. */
  getToken = async ({ reason, url }) => {
    const kept = this.#token;
    const fresh = reason === "expired" || reason === "renewal";
    if (this.token !== undefined) {
      if (fresh && this.token === this.#given) return null;
      return (this.#given = this.token);
    }
    if (!fresh && kept !== null && kept.expires_at - Date.now() > 5_000) return kept.value;
    this.#token = await this.#issue(url);
    return this.#token.value;
  };

  /** A token from the first node that answers; rejects with words for the page. */
  async #issue(url) {
    let failure = new Error("No node answers");
    for (const node of [url, ...this.urls.filter((other) => other !== url)]) {
      try {
        const response = await fetch(new URL("/dev/token", node), {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ user: this.user, ttl: this.ttl, scope: this.kind.scope }),
          signal: AbortSignal.timeout(4_000),
        });
        const answer = await response.json();
        if (response.ok) return { value: answer.token, expires_at: answer.expires_at };
        failure = new Error(`No token: ${answer.error?.message ?? `the issuer answered ${response.status}`}`);
      } catch {
        // nobody there, or not a node: the next one may be
      }
    }
    throw failure;
  }
}

/**
 * A client of a Tidegate cluster: socket.io-client with renewal, resume and back-off done right.
 *
 *     import { connect } from "https://chat.example.org/tidegate.js";
 *
 *     const tide = connect({ urls: ["https://a.example.org", "https://b.example.org"], getToken });
 *     tide.on("message", ({ room, from, text }) => …);
 *     await tide.send({ room: "lobby", text: "hello" });
 *
 * Whatever drops, expires or drains in between, each sequenced event of a room comes once and in order, and each message is sent until
 * the log has it, once.
 */

import { io } from "./web/vendor/socket.io.esm.min.js";
import { Backoff } from "./web/tidegate/backoff.js";
import { CommandError, adviceFor, whyRefused } from "./web/tidegate/codes.js";
import { Emitter } from "./web/tidegate/emitter.js";
import { Outbox, newId } from "./web/tidegate/outbox.js";
import { Rooms } from "./web/tidegate/rooms.js";
import { Route } from "./web/tidegate/route.js";

export { CommandError, newId };

/**
 * @typedef {object} Options
 * @property {string[]} [urls] the nodes' origins; the first is tried first
 * @property {string} [url] the same for one node or a load balancer
 * @property {(why: {reason: "connect" | "reconnect" | "expired" | "renewal", url: string}) => Promise<string | null>} getToken
 *   asked before each connect and each renewal; for `connect` and `reconnect` a token that is still good will do, for `expired` and
 *   `renewal` it takes a fresh one. Null: the user has to sign in. When it rejects (`token_unavailable`), it is asked again later.
 * @property {boolean} [renew] false: let the token run out, and come back with another
 * @property {string} [namespace] `/` or `/admin`
 * @property {{session?: string, ticket?: string, cursors: Record<string, number>}} [resume] where an earlier client of this user got to
 * @property {object} [socket] more options for socket.io-client
 * @property {() => number} [random] in [0, 1)
 */

/**
 * @typedef {object} Status what `on("status", …)` is called with. By `state`:
 * - `connecting` {url}
 * - `connected` {url, node, user, session, expires_at, refresh_at, resumed, rooms}: as in `welcome`
 * - `caught-up` {missed: {room: events}, total, away}: level with the cluster; `away` ms after the connection was lost, null at first
 * - `renewed` {expires_at, refresh_at}: another token took the place of the first, on the same connection
 * - `expired` {}, `draining` {retry_after}: the connection is about to end
 * - `reconnecting` {wait, url, code, message, rounds}: tries again in `wait` ms; `rounds`: how often every node has been asked in vain
 * - `sign-in` {code, message, open}: no token will do before the user has signed in again: then call `retry()`. `open`: a renewal was
 *   refused, and the connection stays until its token ends
 * - `refused` {code, message}: final, until `retry()`
 * - `held` {}: the log does not take messages now; they are kept, and sent again until it does: `flowing` {}
 * - `reset` {room, seq}: the cluster's log is not the one of before; the room starts at `seq`
 * - `closed` {}
 */

/** @param {Options} options @returns {Tidegate} which is already connecting */
export function connect(options) {
  return new Tidegate(options);
}

const CONNECT_TIMEOUT = 10_000; // for the transport; and again from there to `welcome`
const ACK_TIMEOUT = 10_000;
const CLOSE_GRACE = 1_000; // for the server to close, after it said that it will

/** Events of the connection itself. */
const CONTROL = new Set(["welcome", "replay", "resync", "draining", "auth:expiring", "auth:expired", "auth:revoked"]);

class Tidegate {
  #options;
  #route;
  #rooms;
  #outbox;
  #emitter = new Emitter();
  #socket = null; // of the open connection or attempt
  #welcome = null; // of the open connection
  #end = null; // ends the open connection or attempt
  #wake = null; // ends the wait
  #hurry = null; // the same, where it has an end of its own
  #closed = false;
  #renewing = null; // the socket whose token is being renewed
  #session;
  #ticket;
  #offset = 0; // the server's clock minus ours
  #why = null; // how the last attempt or connection ended
  #lostAt = null;

  constructor(options) {
    const { urls = [options.url], resume, random = Math.random } = options;
    this.#options = { namespace: "/", renew: true, ...options, random };
    this.#session = resume?.session;
    this.#ticket = resume?.ticket;
    this.#route = new Route(urls, random);
    this.#rooms = new Rooms({
      ask: (name, payload) => this.#ask(name, payload),
      deliver: (event, replayed) => this.#deliver(event, replayed),
      level: (missed) => this.#level(missed),
      cursors: resume?.cursors,
      random,
    });
    this.#outbox = new Outbox({
      deliver: (message) => this.#ask("message:send", message),
      pause: (attempt, hint = 0) => delay(hint + (0.25 + random()) * Math.min(5_000, 250 * 2 ** attempt)),
      hold: (held) => this.#status(held ? "held" : "flowing"),
    });
    globalThis.addEventListener?.("online", this.#online);
    queueMicrotask(() => this.#run()); // so that whoever called has time to listen
  }

  /** Who the server says this is; undefined before the first connection. */
  user;

  /** Whether commands can be sent now. */
  get connected() {
    return this.#welcome !== null;
  }

  /** The node's URL, of this connection or the next. */
  get url() {
    return this.#route.url;
  }

  /** Where each room is: for another client's `resume`. */
  get resume() {
    return { session: this.#session, ticket: this.#ticket, cursors: this.#rooms.cursors };
  }

  /** How many messages are not known to be in the log. */
  get unsent() {
    return this.#outbox.size;
  }

  /** The server's time in milliseconds, as well as it is known. */
  now() {
    return Date.now() + this.#offset;
  }

  /**
   * Listen: to `status` (see `Status`), to an event of the protocol by its name (`message`, `typing`, …), or to `event`: all of them, with
   * their name under `event`. The listener's second argument is `{replayed}`: whether this was missed and is now made up for.
   *
   * @returns {() => void} stops listening
   */
  on(name, listener) {
    return this.#emitter.on(name, listener);
  }

  /**
   * Send a message, now or as soon as there is a connection, under one id until the log has it; in order in each room.
   *
   * @param {{room: string, text: string, id?: string, reply_to?: string}} message
   * @returns {Promise<{id: string, seq: number, at: number, duplicate?: boolean}>} rejects with a `CommandError` when it is refused
   */
  send(message) {
    if (this.#closed) return Promise.reject(new CommandError({ code: "closed" }));
    return this.#outbox.send({ ...message, id: message.id ?? newId() });
  }

  /**
   * Give any other command, once; waits for a connection for up to `timeout` ms. Rejects with a `CommandError`; where its code is `lost`
   * or `timeout`, nobody knows whether the command was carried out.
   */
  async request(name, payload, { timeout = ACK_TIMEOUT } = {}) {
    if (!this.connected) await this.#connection(timeout);
    return this.#ask(name, payload, timeout);
  }

  /** Renew the token now. */
  renew() {
    if (this.connected) this.#renew(this.#socket);
  }

  /** Try now: cuts a wait short, and goes on after `sign-in` or `refused`. */
  retry() {
    if (this.connected) this.renew();
    else this.#wake?.();
  }

  /** Go on with another node. */
  move(url) {
    this.#route.choose(url);
    if (this.#end) this.#end({ code: "moved" });
    else this.#wake?.();
  }

  /** End it for good; idempotent. What has not been sent is rejected. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#online);
    this.#end?.({ code: "closed" });
    this.#wake?.();
    this.#outbox.rejectAll(new CommandError({ code: "closed" }));
    this.#status("closed");
  }

  // Connections, one after the other

  async #run() {
    let reason = "connect";
    while (!this.#closed) {
      const end = await this.#connect(reason);
      if (this.#closed) return;
      this.#why = end;
      const advice = end.code === "moved" ? "wait" : adviceFor(end.code, end.retryAfter);
      if (advice === "stop" || advice === "sign-in") {
        await this.#park(advice, end);
        reason = "expired";
      } else {
        const wait = this.#route.after(end);
        const { code, message } = end;
        this.#status("reconnecting", { wait: Math.round(wait), url: this.url, code, message, rounds: this.#route.rounds });
        await this.#sleep(wait);
        reason = advice === "fresh" ? "expired" : "reconnect";
      }
    }
  }

  /** Wait until the caller says that it makes sense to try again. */
  async #park(advice, { code, message = code }) {
    if (advice === "stop") {
      this.#outbox.rejectAll(new CommandError({ code, message }));
      this.#status("refused", { code, message });
    } else this.#status("sign-in", { code, message, open: false });
    await this.#sleep();
  }

  /** One connection, from the token to its end. */
  async #connect(reason) {
    this.#status("connecting", { url: this.url });
    const token = await this.#token(reason);
    if (token.end) return token.end;
    if (this.#closed) return { code: "closed" };
    const socket = this.#open(token.value);
    const end = await new Promise((resolve) => this.#listen(socket, resolve));
    const welcomed = this.#welcome !== null;
    const lasted = welcomed ? Date.now() - this.#welcome.since : 0;
    if (welcomed) this.#lostAt = Date.now();
    this.#socket = this.#welcome = this.#end = null;
    this.#rooms.lost();
    socket.offAny();
    socket.removeAllListeners();
    socket.disconnect();
    return { ...end, welcomed, lasted };
  }

  async #token(reason) {
    try {
      const value = await this.#options.getToken({ reason, url: this.url });
      return value ? { value } : { end: { code: "token_missing", message: "sign in" } };
    } catch (error) {
      return { end: { code: "token_unavailable", message: error?.message ?? String(error) } };
    }
  }

  #open(token) {
    const { session, cursors } = this.resume;
    const resuming = session !== undefined || Object.keys(cursors).length > 0;
    const ticket = this.#ticket === undefined ? {} : { query: { ...this.#options.socket?.query, ticket: this.#ticket } };
    return io(this.url + this.#options.namespace, {
      transports: ["websocket", "polling"],
      tryAllTransports: true, // polling where WebSockets do not pass; and its refusals can be read
      timeout: CONNECT_TIMEOUT,
      ...this.#options.socket,
      ...ticket,
      auth: resuming ? { token, resume: { session: session ?? "", cursors } } : { token },
      reconnection: false,
      autoConnect: false,
      forceNew: true,
    });
  }

  #listen(socket, end) {
    let cause; // what the server said before it closed
    const timer = setTimeout(end, 2 * CONNECT_TIMEOUT, { code: "lost", message: "no welcome came" });
    const over = (why) => {
      clearTimeout(timer);
      end(why);
    };
    const closing = (why) => {
      cause = why;
      setTimeout(over, CLOSE_GRACE, why);
    };
    this.#socket = socket;
    this.#end = over;
    socket.on("connect_error", (error) => over(whyRefused(error)));
    socket.on("disconnect", (why) => over(cause ?? { code: why === "io server disconnect" ? "disconnected" : "lost" }));
    socket.on("welcome", (welcome) => {
      clearTimeout(timer);
      this.#welcomed(welcome);
    });
    socket.on("auth:expiring", () => this.#options.renew && this.#renew(socket));
    socket.on("auth:expired", () => {
      closing({ code: "token_expired" });
      this.#status("expired");
    });
    socket.on("auth:revoked", ({ code = "token_revoked" } = {}) => closing({ code, message: "access has been withdrawn" }));
    socket.on("draining", ({ retry_after } = {}) => {
      closing({ code: "draining", retryAfter: retry_after });
      this.#status("draining", { retry_after });
    });
    socket.on("replay", (replay) => this.#rooms.replayed(replay));
    socket.on("resync", ({ room }) => this.#rooms.fill(room));
    socket.onAny((name, payload) => CONTROL.has(name) || this.#received(name, payload));
    socket.connect();
  }

  #welcomed(welcome) {
    const { session, ticket, user, server_time, resumed, rooms = [] } = welcome;
    const resets = this.#rooms.welcomed({ user, rooms }, this.#session !== undefined && !resumed);
    this.user = user;
    this.#session = session;
    this.#ticket = ticket;
    this.#offset = server_time - Date.now();
    this.#welcome = { ...welcome, since: Date.now() };
    this.#status("connected", { ...welcome, rooms, url: this.url });
    for (const reset of resets) this.#status("reset", reset);
    this.#rooms.settle();
    this.#outbox.flush();
  }

  // Events

  #received(name, payload) {
    const event = { ...payload, event: name };
    const sequenced = name !== "read" && typeof event.room === "string" && Number.isInteger(event.seq);
    if (sequenced) this.#rooms.received(event);
    else this.#deliver(event, false);
  }

  #deliver(event, replayed) {
    this.#emitter.emit(event.event, event, { replayed });
    this.#emitter.emit("event", event, { replayed });
  }

  #level(missed) {
    const total = Object.values(missed).reduce((sum, count) => sum + count, 0);
    this.#status("caught-up", { missed, total, away: this.#lostAt === null ? null : Date.now() - this.#lostAt });
  }

  #status(state, fields = {}) {
    this.#emitter.emit("status", { ...fields, state });
  }

  // The token of an open connection

  /** Ask for a fresh token and hand it in, again and again until the old one ends. */
  async #renew(socket) {
    if (this.#renewing === socket) return;
    this.#renewing = socket;
    const pause = new Backoff({ first: 1_000, cap: 5_000, random: this.#options.random });
    while (this.#socket === socket && this.#left() > 0) {
      const { value: token, end } = await this.#token("renewal");
      const error = end ?? (await this.#refresh(token));
      if (error === null || this.#socket !== socket) break;
      const advice = adviceFor(error.code, error.retryAfter);
      if (advice === "stop") this.#end(error);
      if (advice === "sign-in") this.#status("sign-in", { code: error.code, message: error.message, open: true });
      if (advice === "stop" || advice === "sign-in") break;
      await delay(Math.min(pause.after(error.retryAfter ?? 0), this.#left()));
    }
    if (this.#renewing === socket) this.#renewing = null;
  }

  /** @returns {Promise<null | {code: string}>} null: renewed */
  async #refresh(token) {
    try {
      const { expires_at, refresh_at } = await this.#ask("auth:refresh", { token }, ACK_TIMEOUT / 2);
      Object.assign(this.#welcome, { expires_at, refresh_at });
      this.#status("renewed", { expires_at, refresh_at });
      return null;
    } catch (error) {
      return error;
    }
  }

  /** What is left of the token, in milliseconds. */
  #left() {
    return Math.max(0, (this.#welcome?.expires_at ?? 0) - this.now());
  }

  // Commands

  #ask(name, payload, timeout = ACK_TIMEOUT) {
    const socket = this.#socket;
    if (!this.connected) return Promise.reject(new CommandError({ code: "lost", message: "not connected" }));
    return new Promise((resolve, reject) => {
      socket.timeout(timeout).emit(name, payload, (failure, ack) => {
        if (failure) reject(new CommandError({ code: socket.connected ? "timeout" : "lost", message: failure.message }));
        else if (ack?.ok === true) resolve(ack);
        else reject(new CommandError(ack?.error ?? { code: "bad_answer" }));
      });
    });
  }

  #connection(timeout) {
    return new Promise((resolve, reject) => {
      const settle = (error) => {
        clearTimeout(timer);
        off();
        if (error) reject(new CommandError(error));
        else resolve();
      };
      const timer = setTimeout(() => settle({ code: "lost", message: notConnected(this.#why) }), timeout);
      const off = this.on("status", ({ state, code = state }) => {
        if (state === "connected") settle();
        else if (state === "closed" || state === "refused") settle({ code });
      });
    });
  }

  // Waiting

  #online = () => this.#hurry?.();

  #sleep(wait) {
    return new Promise((resolve) => {
      const timer = wait === undefined ? undefined : setTimeout(resolve, wait);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#hurry = wait === undefined ? null : this.#wake;
    }).finally(() => (this.#wake = this.#hurry = null));
  }
}

function notConnected(why) {
  return why === null ? "not connected" : `not connected: ${why.code}${why.message ? `, ${why.message}` : ""}`;
}

function delay(wait) {
  return new Promise((resolve) => setTimeout(resolve, wait));
}

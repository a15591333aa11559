/** What a client does about each code of the protocol. */

/** @typedef {"stop" | "sign-in" | "fresh" | "wait"} Advice */

const STOP = [
  "subject_mismatch",
  "credentials_conflict",
  "issuer_invalid",
  "audience_invalid",
  "scope_missing",
  "token_revoked",
  "user_suspended",
  "disconnected",
];
const SIGN_IN = [
  "token_missing",
  "token_malformed",
  "token_too_large",
  "token_not_yet_valid",
  "token_ttl_too_long",
  "claim_missing",
  "signature_invalid",
  "algorithm_not_allowed",
  "key_unknown",
];
const WAIT = [
  "token_unavailable", // the client's own: `getToken` rejected
  "keys_unavailable",
  "server_busy",
  "draining",
  "authentication_timeout",
  "unavailable",
  "rate_limited",
  "lost",
  "timeout",
];

/** @type {Map<string, Advice>} */
const ADVICE = new Map([
  ...STOP.map((code) => [code, "stop"]),
  ...SIGN_IN.map((code) => [code, "sign-in"]),
  ...WAIT.map((code) => [code, "wait"]),
  ["token_expired", "fresh"],
]);

/**
 * `stop`: final; `sign-in`: only another sign-in helps; `fresh`: try again with a fresh token; `wait`: try again later.
 * A code that is not known is final, unless the server says when to come back.
 *
 * @param {string} code
 * @param {number} [retryAfter] milliseconds
 * @returns {Advice}
 */
export function adviceFor(code, retryAfter) {
  return ADVICE.get(code) ?? (retryAfter === undefined ? "stop" : "wait");
}

/** A command that was not carried out, or of which nobody knows (`lost`: the connection went away; `timeout`: no answer came). */
export class CommandError extends Error {
  /** @param {{code: string, message?: string, field?: string, retry_after?: number}} error as in the ack */
  constructor({ code, message, field, retry_after }) {
    super(message ?? code);
    this.name = "CommandError";
    this.code = code;
    this.field = field;
    this.retryAfter = retry_after;
  }
}

/**
 * Why a connection could not be made, from socket.io-client's `connect_error`: the refusal of the namespace or of the HTTP request, or
 * `lost` where nobody answered.
 *
 * @returns {{code: string, message: string, retryAfter?: number, answered: boolean}} `answered`: a server said so
 */
export function whyRefused(error) {
  if (error.data !== undefined || error.message === "Invalid namespace") {
    const { code = "disconnected", retry_after: retryAfter } = error.data ?? {};
    return { code, message: error.message, retryAfter, answered: true };
  }
  const response = error.context; // of engine.io-client's polling: the XMLHttpRequest
  const said = typeof response?.responseText === "string" ? parsed(response.responseText)?.error : undefined;
  if (typeof said?.code !== "string") return { code: "lost", message: error.message, answered: false };
  // by getAllResponseHeaders: asking for one header that another origin does not expose is an error in the console
  const seconds = /^retry-after:\s*(\d+)/im.exec(response.getAllResponseHeaders?.() ?? "")?.[1];
  const retryAfter = seconds === undefined ? undefined : Number(seconds) * 1_000;
  const code = error.description === 503 || error.description === 401 ? said.code : "lost";
  return { code, message: said.message ?? said.code, retryAfter, answered: code !== "lost" };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * What an operator can do, each with what the page has to know to ask before it does it. Pure.
 *
 * @typedef {object} Action
 * @property {string} title of the dialog
 * @property {string} verb on the button that does it
 * @property {string} whose in "12 sessions of ann": the words behind the number
 * @property {object | null} filter of `sessions`: those that it ends; null where they are counted otherwise
 * @property {number} [count] how many, where they are
 * @property {string[]} effects in sentences, what becomes of them
 * @property {boolean} [lasts] whether it takes a time until which it lasts
 * @property {string} name of the command
 * @property {(until: number | null) => object} fields of the command
 */

import { rate } from "./words.js";

/** All of a user's tokens so far. @returns {Action} */
export const revokeUser = (user) => ({
  title: `Revoke all tokens of ${user}`,
  verb: `Revoke ${user}`,
  whose: `of ${user}`,
  filter: { user },
  effects: [`Every token that was issued to ${user} until now is refused from here on, on all nodes, for good.`, `With a new token ${user} can come back.`],
  name: "revoke",
  fields: () => ({ user }),
});

/** One token, by its id. @returns {Action} */
export const revokeToken = (jti) => ({
  title: "Revoke a token",
  verb: "Revoke the token",
  whose: `that ever had the token ${jti}`,
  filter: { jti },
  effects: ["The token with this id is refused from here on, on all nodes, for good.", "Other tokens of its user stay good."],
  name: "revoke",
  fields: () => ({ jti }),
});

/** One session, with those that it resumed and that resumed it. @returns {Action} */
export const disconnect = ({ session, user }) => ({
  title: user === undefined ? "Disconnect a session" : `Disconnect ${user}`,
  verb: "Disconnect",
  whose: user === undefined ? `under ${session}` : `of ${user}, under ${session}`,
  filter: { session },
  effects: ["It ends, and cannot be resumed; nor can those that it resumed.", "The token stays good: to keep the user out, revoke or suspend."],
  name: "session:close",
  fields: () => ({ session }),
});

/** A user, whatever the tokens. @returns {Action} */
export const suspend = (user) => ({
  title: `Suspend ${user}`,
  verb: `Suspend ${user}`,
  whose: `of ${user}`,
  filter: { user },
  effects: [`No token of ${user} is accepted while it lasts, new ones neither.`, "Afterwards those that have not ended are good again."],
  lasts: true,
  name: "suspend",
  fields: (until) => (until === null ? { user } : { user, until }),
});

/** @returns {Action} */
export const liftSuspension = (user) => ({
  title: `Let ${user} in again`,
  verb: `Let ${user} in`,
  whose: "",
  filter: null,
  count: 0,
  effects: [`The suspension of ${user} ends now, on all nodes: tokens that have not ended are good again.`],
  name: "suspend",
  fields: () => ({ user, until: 0 }),
});

/** @param {object} stats the cluster now @param {string} here the node that this page is on @returns {Action} */
export function drain(node, stats, here) {
  const others = Object.entries(stats.nodes).filter(([name, { ready }]) => name !== node && ready);
  const capacity = others.reduce((sum, [, state]) => sum + state.handshake_capacity_per_second, 0);
  const elsewhere =
    others.length === 0
      ? "No other node is ready: they have nowhere to go until it is back."
      : `They are told to come back elsewhere: ${others.map(([name]) => name).join(", ")} can let in ${rate(capacity)} a second.`;
  return {
    title: `Drain ${node}`,
    verb: `Drain ${node}`,
    whose: `on ${node}`,
    filter: null,
    count: stats.nodes[node]?.sessions ?? 0,
    effects: [elsewhere, "Then its process ends; what runs it may start it again.", ...(node === here ? ["This page is on it, and goes elsewhere too."] : [])],
    name: "drain",
    fields: () => ({ node }),
  };
}

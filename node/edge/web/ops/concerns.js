/** What an operator should look at now, each with its reason. Pure. */

import { gravity, worst } from "./outlook.js";
import { bytes, delay, lasting, rate, sessionsDo } from "./words.js";
import { plural } from "../words.js";

const LOOP_LATE_S = 0.25; // at worst, in some seconds; from 0.1 on the node lets fewer in
const LOG_LATE_S = 1; // a message should be there in a tenth of that; a node that is not ready has its reason
const REFUSED_PER_S = 1; // a clock or a key is off, or someone tries tokens
const SHED_PER_S = 0.2;
const UNRECORDED = 100; // ends and beginnings of sessions that wait for the log

/** @typedef {{tone: "bad" | "wait", key: string, text: string}} Concern */

/** @param {import("./watch.js").Watch} watch @returns {Concern[]} the gravest first */
export function concerns(watch, now) {
  const { stats } = watch;
  const found = [...ahead(stats), ...watch.nodes(now).flatMap(ofNode), ...atTheDoor(watch, now), ...versions(stats)];
  return found.sort((a, b) => Number(b.tone === "bad") - Number(a.tone === "bad"));
}

function ahead(stats) {
  const found = worst(stats.forecast);
  const capacity = stats.handshake_capacity_per_second;
  const tone = gravity(found?.peak ?? 0, capacity);
  if (tone === "good") return [];
  const many = `${sessionsDo(found.peak, "end")} together in ${lasting(found.at - stats.at)}`;
  const against = `${tone === "bad" ? "more than" : "over half of"} the ${rate(capacity)} that can come back in a second`;
  return [{ tone, key: "ahead", text: `${tone === "bad" ? "Cliff ahead: " : ""}${many}, ${against}.` }];
}

function ofNode({ name, state, here, silent, drained }) {
  if (!here) return drained ? [] : [{ tone: "bad", key: `${name} gone`, text: `${name} has not been heard for ${lasting(silent)}.` }];
  const found = Object.entries(state.not_ready ?? {}).map(([reason, words]) => ({
    tone: reason === "draining" ? "wait" : "bad",
    key: `${name} ${reason}`,
    text: `${name} is not ready: ${reason} (${words}).`,
  }));
  const wait = (key, text) => found.push({ tone: "wait", key: `${name} ${key}`, text });
  if (state.loop_lag_seconds > LOOP_LATE_S) wait("loop", `${name} has too much to do: its event loop is ${delay(state.loop_lag_seconds)} late.`);
  if (state.ready && state.lag_seconds > LOG_LATE_S) wait("lag", `${name} is ${delay(state.lag_seconds)} behind the log.`);
  if (state.slow_sockets > 0) wait("slow", `${name} has ${plural(state.slow_sockets, "slow socket")}, ${bytes(state.outbox_bytes)} unsent.`);
  if (state.unrecorded > UNRECORDED) wait("unrecorded", `${name} has ${plural(state.unrecorded, "event")} of sessions that wait for the log.`);
  return found;
}

function atTheDoor(watch, now) {
  const { accepted = 0, refused = 0, busy = 0 } = watch.rates("handshakes", now);
  const found = [];
  if (busy > SHED_PER_S) found.push({ tone: "wait", key: "busy", text: `${rate(busy)} handshakes a second are sent away to come again later.` });
  if (refused > REFUSED_PER_S && refused > accepted) {
    const codes = Object.entries(watch.rates("handshake_codes", now)).filter(([code]) => code !== "server_busy" && code !== "draining");
    const most = codes.sort(([, a], [, b]) => b - a)[0]?.[0] ?? "for no known reason";
    found.push({ tone: "bad", key: "refused", text: `More handshakes are refused than accepted: ${rate(refused)} a second, most of them ${most}.` });
  }
  return found;
}

function versions(stats) {
  const found = [...new Set(Object.values(stats.nodes).map(({ version }) => version))].sort();
  return found.length < 2 ? [] : [{ tone: "wait", key: "versions", text: `The nodes run different versions: ${found.join(", ")}.` }];
}

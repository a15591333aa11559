/** What the forecast says: when most sessions end together, and whether they could come back. Pure. */

import { plural } from "../words.js";
import { lasting, rate, secondOf, sessionsDo } from "./words.js";

/** The spans of the forecast, the narrowest first. `width`: of a bucket, in ms. */
export const SPANS = [
  { name: "1s", width: 1_000, title: "1 minute" },
  { name: "10s", width: 10_000, title: "10 minutes" },
  { name: "60s", width: 60_000, title: "1 hour" },
];
const WATCH = 0.5; // of what can be let in in a second: from there on it is worth a look

/** @typedef {{at: number, width: number, ends: number, peak: number, renewals: number, renewalsPeak: number}} Bucket */

/** The buckets of a span. A peak is the most in any one second of its bucket. @returns {Bucket[]} */
export function buckets(forecast, { name, width }) {
  const { begin, ends, ends_peak: peaks, renewals, renewals_peak: renewalsPeaks } = forecast[name];
  return ends.map((count, place) => ({
    at: begin + place * width,
    width,
    ends: count,
    peak: peaks[place],
    renewals: renewals[place],
    renewalsPeak: renewalsPeaks[place],
  }));
}

/** The bucket with the second in which most sessions end, of the narrowest span that has it; null where none ends. */
export function worst(forecast) {
  const all = SPANS.flatMap((span) => buckets(forecast, span));
  const found = all.reduce((most, bucket) => (bucket.peak > (most?.peak ?? 0) ? bucket : most), null);
  return found;
}

/** How grave it is when so many sessions end in one second. @returns {"good" | "wait" | "bad"} */
export function gravity(peak, capacity) {
  if (peak > capacity) return "bad";
  return peak > capacity * WATCH ? "wait" : "good";
}

/** In one sentence or two, what lies ahead. @returns {{tone: "good" | "wait" | "bad", text: string}} */
export function outlook({ forecast, handshake_capacity_per_second: capacity, at }) {
  const found = worst(forecast);
  if (found === null) return { tone: "good", text: "No session ends within the next 59 minutes." };
  const tone = gravity(found.peak, capacity);
  const planned = renewalsBefore(forecast, found);
  const renewals = planned > 0 ? ` ${plural(planned, "renewal")} ${planned === 1 ? "is" : "are"} planned before that.` : " No renewal is planned before that.";
  if (tone === "bad") {
    const back = Math.ceil(found.peak / Math.max(1, capacity));
    const text = `Cliff ahead: ${sessionsDo(found.peak, "end")} together, ${when(found, at)}. `;
    return { tone, text: `${text}The cluster lets ${rate(capacity)} in a second in: all are back ${lasting(back * 1_000)} later at the soonest.${renewals}` };
  }
  const part = Math.max(1, Math.round((100 * found.peak) / Math.max(1, capacity)));
  const text = `${sessionsDo(found.peak, "end")}${found.peak === 1 ? "" : " together"}, ${when(found, at)}: ${part}% of what can come back in a second.`;
  return { tone, text: `${text}${renewals}` };
}

/** "at 14:03:20, in 42 s", or within which minute. */
export function when({ at, width }, now) {
  const left = lasting(at - now);
  return width === 1_000 ? `at ${secondOf(at)}, in ${left}` : `within ${lasting(width)} from ${secondOf(at)} on, in ${left}`;
}

/** How many renewals are planned before a bucket begins. */
function renewalsBefore(forecast, { at, width }) {
  const span = SPANS.find((one) => one.width === width);
  return buckets(forecast, span).reduce((sum, bucket) => sum + (bucket.at < at ? bucket.renewals : 0), 0);
}

const STEPS = [1, 1.5, 2, 3, 4, 5, 6, 8, 10];

/** The least round number that is not under `value`. */
export function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return Math.max(1, power * STEPS.find((step) => step * power >= value));
}

/** The top of the chart's scale: the capacity is in sight as soon as the bars are a quarter as high. */
export function top(peak, capacity) {
  const inSight = peak === 0 || capacity <= 4 * peak;
  return round(Math.max(4, peak * 1.15, inSight ? capacity * 1.1 : 0));
}

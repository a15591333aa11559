/** How numbers, times and places read on the operator's page. */

import { plural } from "../words.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** "14:03:20". */
export const secondOf = (at) => clock.format(at);

/** "42 s", "7 min", "3 h 12 min", "5 d 3 h". */
export function lasting(ms) {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
  return hours % 24 === 0 ? `${Math.floor(hours / 24)} d` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** "0 B", "812 B", "12 KiB", "1.5 MiB". */
export function bytes(count) {
  if (count < 1_024) return `${count} B`;
  const [value, unit] = count < 1_048_576 ? [count / 1_024, "KiB"] : [count / 1_048_576, "MiB"];
  return `${value < 10 ? Math.round(value * 10) / 10 : Math.round(value)} ${unit}`;
}

/** "0", "0.3", "12", "1,240": of things a second. */
export function rate(value) {
  if (value >= 10) return Math.round(value).toLocaleString();
  return (Math.round(value * 10) / 10).toLocaleString();
}

/** "9 ms", "1.2 s". */
export const delay = (seconds) => (seconds < 0.9995 ? `${Math.round(seconds * 1_000)} ms` : `${seconds.toFixed(1)} s`);

/** "n1 (7), n2 (5)"; of one node its name alone. @param {Record<string, number>} counts */
export function places(counts) {
  const names = Object.keys(counts).sort();
  return names.length === 1 ? names[0] : names.map((name) => `${name} (${counts[name].toLocaleString()})`).join(", ");
}

/** "12 sessions", with a verb that agrees: "12 sessions end". */
export const sessionsDo = (count, verb) => `${plural(count, "session")} ${verb}${count === 1 ? "s" : ""}`;

/** How times, names and texts read. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const timeOf = (at) => clock.format(at);
export const fullTimeOf = (at) => full.format(at);
export const dayKey = (at) => new Date(at).toDateString();

/** "Today", "Yesterday", or the date. */
export function dayOf(at, now = Date.now()) {
  if (dayKey(at) === dayKey(now)) return "Today";
  if (dayKey(at) === dayKey(now - 86_400_000)) return "Yesterday";
  return day.format(at);
}

/** "4:05", "1:02:03". */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1_000));
  const parts = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  const [, minutes, rest] = parts.map((part) => String(part).padStart(2, "0"));
  return parts[0] > 0 ? `${parts[0]}:${minutes}:${rest}` : `${parts[1]}:${rest}`;
}

/** "0.8 s", "12 s", "3 min". */
export function span(ms) {
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)} s`;
  return ms < 120_000 ? `${Math.round(ms / 1_000)} s` : `${Math.round(ms / 60_000)} min`;
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** One or two letters for an avatar. */
export function initials(name) {
  const words = name.split(/[\s._@-]+/).filter(Boolean);
  const letters = words.length > 1 ? [...words[0]][0] + [...words[1]][0] : [...(words[0] ?? name)].slice(0, 2).join("");
  return letters.toUpperCase();
}

/** One of twelve hues for a name, always the same. */
export function hueOf(name) {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) >>> 0;
  return hash % 12;
}

/** A text in pieces: plain ones, and addresses that may become links. */
export function pieces(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g)) {
    if (match.index > at) found.push({ text: text.slice(at, match.index) });
    found.push({ text: match[0], href: match[0] });
    at = match.index + match[0].length;
  }
  if (at < text.length) found.push({ text: text.slice(at) });
  return found;
}

/** "ann", "ann and bob", "ann, bob and 3 more". */
export function people(names, most = 2) {
  if (names.length <= 1) return names[0] ?? "";
  if (names.length <= most) return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  return `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
}

/** Why another token is wanted, from the `sign-in` of the client. `refused`: the one before was turned away for good. */
export function tokenWanted({ code, message, open }, refused) {
  if (code !== "token_missing") return `This token was not accepted: ${message}.`;
  if (open) return "This token ends soon. Paste a fresh one.";
  return refused ? "This token is refused. Paste another one." : "This token has ended. Paste a fresh one.";
}

/** What went wrong, for people. */
export function explain(error) {
  const known = {
    lost: "The connection is away. Try again once it is back.",
    timeout: "No answer came. It may or may not have been done.",
    rate_limited: "That was too fast. Wait a moment.",
    room_not_found: "There is no such room, or it is private.",
    room_exists: "A room of this name exists already.",
    too_large: "That is too long.",
    unavailable: "The cluster cannot take this now. Try again in a moment.",
  };
  return known[error.code] ?? error.message ?? String(error);
}

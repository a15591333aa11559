/** Rooms' names, which are for addresses and commands, from what people call them. */

/** A room's name from its title; empty where there is neither a letter nor a digit in it. */
export function nameFrom(title) {
  const plain = title.normalize("NFKD").replace(/\p{M}+/gu, "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-");
  const name = plain.replace(/^[^a-z0-9]+/, "").slice(0, 64).replace(/-+$/, "");
  return name || (/[\p{L}\p{N}]/u.test(title) ? `room-${digest(title.trim().toLowerCase())}` : "");
}

/** The name of the direct room of two people, whoever of them makes it. */
export function directName(pair) {
  return `dm-${digest([...pair].sort().join("\n"))}`;
}

/** Fourteen letters and digits that stand for a text. FNV-1a, twice: also where `crypto.subtle` is not to be had. */
function digest(text) {
  const half = (start) => {
    let hash = start;
    for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
    return (hash >>> 0).toString(36).padStart(7, "0");
  };
  return half(0x811c9dc5) + half(0x1b873593);
}

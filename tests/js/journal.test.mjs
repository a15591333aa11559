import assert from "node:assert/strict";
import { test } from "node:test";
import { Journal } from "../../node/edge/web/journal.js";
import { tokenWanted } from "../../node/edge/web/words.js";

const NAMES = { "http://a.test": "n1", "http://b.test": "n2", "http://c.test": "n3" };
const [A, B, C] = Object.keys(NAMES);
const connected = (url) => ({ state: "connected", url, node: NAMES[url], server_time: 0, expires_at: 60_000 });
const trying = (url, code, rounds = 0, wait = 100) => ({ state: "reconnecting", url, code, rounds, wait });

/** A journal that has taken these: what its list says, the oldest first, the strip after each, and what was said aloud. */
function journalOf(...statuses) {
  const journal = new Journal((url) => NAMES[url]);
  const strips = [];
  const aloud = [];
  for (const status of statuses) {
    const said = journal.take(status, 1_000);
    strips.push(journal.strip?.text ?? null);
    if (said !== null) aloud.push(said);
  }
  return { list: journal.entries.map(({ text }) => text).reverse(), strips, aloud, strip: journal.strip };
}

test("when nobody is there any more the list says so once, and the strip when the next try is", () => {
  const { list, strips, aloud, strip } = journalOf(
    connected(C),
    { state: "draining", retry_after: 500 },
    trying(A, "draining"),
    trying(B, "lost"),
    trying(C, "lost"),
    trying(A, "lost", 1, 900),
    trying(B, "lost", 1),
    trying(C, "lost", 1),
    trying(A, "lost", 2, 6_000),
  );
  assert.deepEqual(list, ["On n3, token good for 60 s", "n3 is shutting down", "No node answers"]);
  assert.deepEqual(strips.slice(2, 6), [
    "n3 is shutting down. Trying n1",
    "n3 is shutting down. Trying n2",
    "n3 is shutting down. Trying n3",
    "No node answers. Trying again",
  ]);
  assert.deepEqual(new Set(strips.slice(5)), new Set(["No node answers. Trying again"]));
  assert.deepEqual(aloud, ["No node answers. Trying again"]);
  assert.equal(strip.until, 7_000);
});

test("nodes that answer but are not ready are told from nodes that are gone, round by round", () => {
  const { list } = journalOf(
    connected(A),
    trying(A, "lost"),
    ...["lost", "server_busy", "lost"].map((code, at) => trying(B, code, at === 2 ? 1 : 0)),
    ...["lost", "lost", "timeout"].map((code, at) => trying(B, code, at === 2 ? 2 : 1)),
  );
  assert.deepEqual(list.slice(1), ["Lost n1", "The node is not ready", "No node is ready", "No node answers"]);
});

test("each outage has its own entry", () => {
  const outage = [trying(A, "lost"), connected(A), { state: "caught-up", total: 1, away: 400 }];
  const { list, strip } = journalOf(connected(A), ...outage, ...outage);
  assert.equal(list.filter((text) => text === "Lost n1").length, 2);
  assert.equal(strip.text, "Back on n1 after 0.4 s: 1 missed, caught up");
});

test("a token that had ended before it was pasted is no fault of a node: nothing is said above the messages", () => {
  const { list, strips } = journalOf(
    { state: "connecting", url: A },
    trying(A, "token_expired"),
    { state: "connecting", url: A },
    { state: "sign-in", code: "token_missing", message: "sign in", open: false },
  );
  assert.deepEqual(list, ["The token has ended", "A fresh token is needed"]);
  assert.deepEqual(strips, [null, null, null, null]);
});

test("a strip does not outlive its outage when a token is wanted", () => {
  const { strips } = journalOf(
    connected(A),
    { state: "expired" },
    trying(A, "token_expired"),
    { state: "sign-in", code: "token_missing", message: "sign in", open: false },
  );
  assert.deepEqual(strips, [null, null, "The token ended. Trying n1", null]);
});

test("an issuer that cannot be asked is named, and does not stand for the nodes afterwards", () => {
  const { list, strips } = journalOf(
    connected(A),
    trying(A, "lost"),
    { ...trying(A, "token_unavailable"), message: "No token: the issuer answered 500" },
    trying(B, "lost"),
  );
  assert.deepEqual(list.slice(1), ["Lost n1", "No token: the issuer answered 500", "Lost n1"]);
  assert.deepEqual(strips.slice(2), ["No token: the issuer answered 500. Trying again", "Lost n1. Trying n2"]);
});

test("the page says why it wants another token", () => {
  const missing = { code: "token_missing", message: "sign in", open: false };
  assert.equal(tokenWanted(missing, false), "This token has ended. Paste a fresh one.");
  assert.equal(tokenWanted({ ...missing, open: true }, false), "This token ends soon. Paste a fresh one.");
  assert.equal(tokenWanted(missing, true), "This token is refused. Paste another one.");
  const wrong = { code: "signature_invalid", message: "the signature does not hold", open: false };
  assert.equal(tokenWanted(wrong, false), "This token was not accepted: the signature does not hold.");
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandError, adviceFor, whyRefused } from "../../node/edge/web/tidegate/codes.js";
import { Outbox, newId } from "../../node/edge/web/tidegate/outbox.js";
import { until } from "./seeded.mjs";

/** An outbox over a log that answers the n-th try by `answers[n]`: a code to refuse with, or nothing to accept. */
function outboxOver(answers) {
  const tries = [];
  const log = [];
  const deliver = async (message) => {
    tries.push(message.id);
    const code = answers.shift();
    if (code !== undefined && code !== "lost-ack") throw new CommandError({ code });
    const known = log.indexOf(message.id);
    if (known < 0) log.push(message.id);
    if (code === "lost-ack") throw new CommandError({ code: "lost" });
    return { id: message.id, seq: log.indexOf(message.id) + 1, at: 1, ...(known < 0 ? {} : { duplicate: true }) };
  };
  const pauses = [];
  const holds = [];
  const pause = async (attempt, hint) => void pauses.push([attempt, hint]);
  const outbox = new Outbox({ deliver, pause, hold: (held) => holds.push(held) });
  return { outbox, tries, log, pauses, holds };
}

test("a message is sent again under its id while the log is away", async () => {
  const { outbox, tries, pauses } = outboxOver(["unavailable", "rate_limited", "timeout", undefined]);
  const sent = await outbox.send({ room: "r", text: "x", id: "one" });
  assert.equal(sent.seq, 1);
  assert.deepEqual(tries, ["one", "one", "one", "one"]);
  assert.deepEqual(
    pauses.map(([attempt]) => attempt),
    [1, 2, 3],
  );
});

test("that messages wait for the log is told once, and once that they do no more; other refusals are not the log's", async () => {
  const { outbox, holds } = outboxOver(["rate_limited", "unavailable", "unavailable", undefined, "not_a_member", "unavailable"]);
  await outbox.send({ room: "r", text: "x", id: "one" });
  assert.deepEqual(holds, [true, false]);
  await assert.rejects(outbox.send({ room: "r", text: "x", id: "two" }), { code: "not_a_member" });
  assert.deepEqual(holds, [true, false]);
  outbox.pause = () => new Promise(() => {});
  const rejected = assert.rejects(outbox.send({ room: "r", text: "x", id: "three" }), { code: "closed" });
  await until(() => holds.length === 3);
  outbox.rejectAll(new CommandError({ code: "closed" }));
  await rejected;
  assert.deepEqual(holds, [true, false, true, false]);
});

test("a message whose ack was lost is sent again over the next connection, and is in the log once", async () => {
  const { outbox, tries, log } = outboxOver(["lost-ack"]);
  const sending = outbox.send({ room: "r", text: "x", id: "one" });
  await until(() => tries.length === 1);
  assert.equal(outbox.size, 1);
  outbox.flush();
  assert.equal((await sending).duplicate, true);
  assert.deepEqual(log, ["one"]);
  assert.equal(outbox.size, 0);
});

test("messages of a room keep their order whatever fails", async () => {
  const { outbox, log } = outboxOver(["unavailable", undefined, "lost", undefined, "unavailable"]);
  const all = Promise.all(["a", "b", "c"].map((id) => outbox.send({ room: "r", text: id, id })));
  const flushing = setInterval(() => outbox.flush(), 5);
  await all;
  clearInterval(flushing);
  assert.deepEqual(log, ["a", "b", "c"]);
});

test("a refused message is given back and the next one goes", async () => {
  const { outbox, log } = outboxOver(["not_a_member", undefined]);
  const refused = outbox.send({ room: "r", text: "x", id: "a" });
  const sent = outbox.send({ room: "r", text: "y", id: "b" });
  await assert.rejects(refused, { code: "not_a_member" });
  assert.equal((await sent).id, "b");
  assert.deepEqual(log, ["b"]);
});

test("what waits is rejected at the end", async () => {
  const { outbox } = outboxOver(["lost"]);
  const sending = outbox.send({ room: "r", text: "x", id: "a" });
  outbox.rejectAll(new CommandError({ code: "closed" }));
  await assert.rejects(sending, { code: "closed" });
  assert.equal(outbox.size, 0);
});

test("ids are unique and in order of time", () => {
  const ids = Array.from({ length: 1_000 }, () => newId(1_700_000_000_000));
  assert.equal(new Set(ids).size, 1_000);
  assert.ok(newId(1_700_000_000_000) < newId(1_700_000_000_001));
});

test("each code has its advice, and an unknown one is final unless the server says when", () => {
  assert.equal(adviceFor("subject_mismatch"), "stop");
  assert.equal(adviceFor("signature_invalid"), "sign-in");
  assert.equal(adviceFor("token_expired"), "fresh");
  assert.equal(adviceFor("token_unavailable"), "wait");
  assert.equal(adviceFor("draining", 500), "wait");
  assert.equal(adviceFor("from_the_future"), "stop");
  assert.equal(adviceFor("from_the_future", 500), "wait");
});

test("a refusal is read from the namespace's data and from the HTTP answer", () => {
  const refused = Object.assign(new Error("expired"), { data: { code: "token_expired" } });
  assert.deepEqual(whyRefused(refused), { code: "token_expired", message: "expired", retryAfter: undefined, answered: true });
  const busy = Object.assign(new Error("xhr poll error"), {
    description: 503,
    context: {
      responseText: '{"error":{"code":"server_busy","message":"not now"}}',
      getAllResponseHeaders: () => "content-type: application/json\r\nretry-after: 3\r\n",
    },
  });
  assert.deepEqual(whyRefused(busy), { code: "server_busy", message: "not now", retryAfter: 3_000, answered: true });
  assert.equal(whyRefused(new Error("websocket error")).code, "lost");
  assert.equal(whyRefused(new Error("Invalid namespace")).code, "disconnected");
});

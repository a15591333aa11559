import assert from "node:assert/strict";
import { test } from "node:test";
import { RoomOrder } from "../../node/edge/web/tidegate/order.js";
import { seeded, shuffled } from "./seeded.mjs";

const event = (seq) => ({ event: "message", room: "r", seq });
const seqs = (events) => events.map(({ seq }) => seq);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => event(from + at));

test("events in order are handed out at once", () => {
  const order = new RoomOrder(4);
  assert.deepEqual(seqs(order.accept(event(5))), [5]);
  assert.deepEqual(seqs(order.accept(event(6))), [6]);
  assert.equal(order.behind, false);
});

test("what was seen before is dropped", () => {
  const order = new RoomOrder(4);
  assert.deepEqual(order.accept(event(4)), []);
  assert.deepEqual(order.accept(event(1)), []);
  assert.equal(order.seq, 4);
});

test("an event behind a gap waits for the gap to close", () => {
  const order = new RoomOrder(4);
  assert.deepEqual(order.accept(event(7)), []);
  assert.equal(order.behind, true);
  assert.deepEqual(seqs(order.replayed({ events: range(5, 6), complete: true, to: 7 })), [5, 6, 7]);
  assert.equal(order.behind, false);
});

test("a page that is not the last leaves the room behind", () => {
  const order = new RoomOrder(0);
  order.expect(10);
  assert.deepEqual(seqs(order.replayed({ events: range(1, 4), complete: false, to: 4 })), [1, 2, 3, 4]);
  assert.equal(order.behind, true);
  assert.deepEqual(seqs(order.replayed({ events: range(5, 10), complete: true, to: 10 })), [5, 6, 7, 8, 9, 10]);
  assert.equal(order.behind, false);
});

test("a complete replay passes over numbers that this user was not meant to see", () => {
  const order = new RoomOrder(3);
  order.accept(event(9));
  assert.deepEqual(seqs(order.replayed({ events: [event(7)], complete: true, to: 9 })), [7, 9]);
  assert.equal(order.seq, 9);
});

test("an event that came while a replay was asked for stays behind its own gap", () => {
  const order = new RoomOrder(3);
  order.accept(event(5));
  order.accept(event(8));
  assert.deepEqual(seqs(order.replayed({ events: range(4, 5), complete: true, to: 5 })), [4, 5]);
  assert.equal(order.behind, true);
  assert.deepEqual(seqs(order.replayed({ events: range(6, 7), complete: true, to: 8 })), [6, 7, 8]);
});

test("past the limit events are not held but known to be missing", () => {
  const order = new RoomOrder(0);
  const last = RoomOrder.MOST_HELD + 50;
  for (const each of range(2, last)) order.accept(each);
  assert.equal(order.known, last);
  const handed = order.accept(event(1));
  assert.equal(handed.at(-1).seq, RoomOrder.MOST_HELD + 1);
  assert.equal(order.behind, true);
});

test("whatever the order and the repeats, each comes once and in order", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seeded(seed);
    const length = 1 + Math.floor(random() * 60);
    const log = range(1, length);
    const order = new RoomOrder(0);
    const handed = [];
    for (const each of shuffled([...log, ...log.filter(() => random() < 0.3)], random)) {
      if (random() < 0.2) continue; // lost on the way
      handed.push(...order.accept(each));
      if (random() < 0.1 && order.behind) {
        const page = 1 + Math.floor(random() * 10);
        const missing = log.slice(order.seq, order.seq + page);
        const complete = order.seq + page >= order.known;
        handed.push(...order.replayed({ events: missing, complete, to: Math.max(order.known, missing.at(-1)?.seq ?? 0) }));
      }
    }
    handed.push(...order.replayed({ events: log.slice(order.seq), complete: true, to: length }));
    assert.deepEqual(seqs(handed), seqs(log), `seed ${seed}`);
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandError } from "../../node/edge/web/tidegate/codes.js";
import { Rooms } from "../../node/edge/web/tidegate/rooms.js";
import { seeded, until } from "./seeded.mjs";

const log = (length) => Array.from({ length }, (_, at) => ({ event: "message", room: "r", seq: at + 1, text: `${at + 1}` }));

/** Rooms over a server that has `events` of room `r` and gives them out `page` at a time. */
function roomsOver(events, { page = 100, cursors, fail = [] } = {}) {
  const seen = { delivered: [], replayed: [], levels: [], asked: [] };
  const ask = async (name, payload) => {
    seen.asked.push(payload.after);
    const code = fail.shift();
    if (code !== undefined) throw new CommandError({ code });
    const rest = events.filter(({ seq }) => seq > payload.after);
    return { ok: true, events: rest.slice(0, page), complete: rest.length <= page };
  };
  const rooms = new Rooms({
    ask,
    cursors,
    random: seeded(1),
    deliver: (event, replayed) => {
      seen.delivered.push(event.seq);
      if (replayed) seen.replayed.push(event.seq);
    },
    level: (missed) => seen.levels.push(missed),
  });
  return { rooms, ...seen };
}

const welcome = (seq) => ({ user: "ann", rooms: seq === undefined ? [] : [{ room: "r", seq }] });
const to = (last) => Array.from({ length: last }, (_, at) => at + 1);

test("a room that is new starts at the welcome's seq", () => {
  const { rooms, delivered, levels } = roomsOver(log(9));
  rooms.welcomed(welcome(7), false);
  rooms.settle();
  log(9).slice(6).forEach((event) => rooms.received(event));
  assert.deepEqual(delivered, [8, 9]);
  assert.deepEqual(levels, [{}]);
  assert.deepEqual(rooms.cursors, { r: 9 });
});

test("a complete replay makes level and is counted", () => {
  const { rooms, delivered, levels } = roomsOver(log(9), { cursors: { r: 4 } });
  rooms.welcomed(welcome(9), false);
  rooms.settle();
  assert.deepEqual(levels, []);
  rooms.replayed({ room: "r", after: 4, to: 9, complete: true, events: log(9).slice(4) });
  assert.deepEqual(delivered, [5, 6, 7, 8, 9]);
  assert.deepEqual(levels, [{ r: 5 }]);
});

test("a replay that is cut off is paged to the end while live events wait", async () => {
  const { rooms, delivered, levels, asked } = roomsOver(log(50), { page: 7, cursors: { r: 0 } });
  rooms.welcomed(welcome(40), false);
  rooms.replayed({ room: "r", after: 0, to: 5, complete: false, events: log(5) });
  log(50).slice(40).forEach((event) => rooms.received(event));
  await until(() => levels.length === 1 && delivered.length === 50);
  assert.deepEqual(delivered, to(50));
  assert.equal(asked[0], 5);
});

test("a gap among live events is filled", async () => {
  const { rooms, delivered, replayed } = roomsOver(log(6));
  rooms.welcomed(welcome(2), false);
  rooms.settle();
  rooms.received(log(6)[2]);
  rooms.received(log(6)[5]);
  await until(() => delivered.length === 4);
  assert.deepEqual(delivered, [3, 4, 5, 6]);
  assert.deepEqual(replayed, [4, 5, 6]);
});

test("a busy server is asked again", async () => {
  const { rooms, delivered, asked } = roomsOver(log(6), { fail: ["rate_limited", "unavailable"] });
  rooms.welcomed(welcome(2), false);
  rooms.settle();
  rooms.received(log(6)[5]);
  await until(() => delivered.length === 4, "the gap's closing");
  assert.deepEqual(asked, [2, 2, 2]);
});

test("a room that may no longer be read is let go", async () => {
  const { rooms, asked } = roomsOver(log(6), { fail: ["room_not_found"] });
  rooms.welcomed(welcome(2), false);
  rooms.settle();
  rooms.received(log(6)[5]);
  await until(() => rooms.cursors.r === undefined);
  assert.deepEqual(asked, [2]);
});

test("resync asks at least once", async () => {
  const { rooms, delivered } = roomsOver(log(6));
  rooms.welcomed(welcome(2), false);
  rooms.settle();
  await rooms.fill("r");
  assert.deepEqual(delivered, [3, 4, 5, 6]);
});

test("leaving ends a room's order and joining begins another", () => {
  const { rooms, delivered } = roomsOver([]);
  rooms.welcomed(welcome(2), false);
  rooms.settle();
  rooms.received({ event: "left", room: "r", seq: 3, user: "ann" });
  assert.deepEqual(rooms.cursors, {});
  rooms.received({ event: "joined", room: "r", seq: 9, user: "ann" });
  rooms.received({ event: "message", room: "r", seq: 10 });
  assert.deepEqual(delivered, [3, 9, 10]);
  assert.deepEqual(rooms.cursors, { r: 10 });
});

test("an invitation is handed out and is no membership", () => {
  const { rooms, delivered } = roomsOver([]);
  rooms.welcomed(welcome(), false);
  rooms.received({ event: "room", room: "p", seq: 4, kind: "private", change: "invited", user: "ann", by: "bob" });
  assert.deepEqual(delivered, [4]);
  assert.deepEqual(rooms.cursors, {});
});

test("another log starts its rooms over, a node that is a little behind does not", () => {
  const { rooms } = roomsOver([], { cursors: { r: 40 } });
  assert.deepEqual(rooms.welcomed(welcome(38), false), []);
  assert.deepEqual(rooms.cursors, { r: 40 });
  assert.deepEqual(rooms.welcomed(welcome(3), true), [{ room: "r", seq: 3 }]);
  assert.deepEqual(rooms.cursors, { r: 3 });
});

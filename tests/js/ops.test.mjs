import assert from "node:assert/strict";
import { test } from "node:test";
import { drain } from "../../node/edge/web/ops/actions.js";
import { concerns } from "../../node/edge/web/ops/concerns.js";
import { gravity, outlook, round, top, worst } from "../../node/edge/web/ops/outlook.js";
import { untilOf } from "../../node/edge/web/ops/until.js";
import { LATELY, Watch } from "../../node/edge/web/ops/watch.js";
import { bytes, delay, lasting, places } from "../../node/edge/web/ops/words.js";

const NOW = 1_795_544_588_000;
const none = () => Array(60).fill(0);

/** A forecast in which `ends` end in the buckets at these places of a span, and `renewals` renew. */
function ahead({ "1s": seconds = {}, "10s": tens = {}, "60s": minutes = {} } = {}, renewals = {}) {
  const span = (width, ends, planned) => ({
    begin: Math.floor(NOW / width) * width,
    ends: Object.assign(none(), ends),
    ends_peak: Object.assign(none(), ends),
    renewals: Object.assign(none(), planned),
    renewals_peak: Object.assign(none(), planned),
  });
  return { "1s": span(1_000, seconds, renewals), "10s": span(10_000, tens, {}), "60s": span(60_000, minutes, {}) };
}

const node = (more = {}) => ({
  version: "0.1.0",
  started_at: NOW - 60_000,
  ready: true,
  not_ready: {},
  sessions: 1,
  handshake_capacity_per_second: 100,
  handshakes: { accepted: 0, refused: 0, busy: 0 },
  handshake_codes: {},
  positions: { 0: 10 },
  ...more,
});

const stats = (nodes, { at = NOW, forecast = ahead(), capacity = 100, gone = {} } = {}) => ({
  at,
  sessions: 1,
  nodes,
  gone,
  forecast,
  handshake_capacity_per_second: capacity,
  log: { partitions: 1, up: true, epoch: "e" },
});

/** A page that has been told these, a second apart, by a cluster of which each has the nodes. */
function watching(...told) {
  const watch = new Watch();
  told.forEach((nodes, place) => watch.take(stats(nodes, { at: NOW + place * 1_000 }), place * 1_000));
  return watch;
}

test("a rate is what the counters of all nodes rose by; what was counted before the page was opened is no rate", () => {
  const counted = (accepted, token_expired) => node({ handshakes: { accepted, refused: 0, busy: 0 }, handshake_codes: { token_expired } });
  const watch = watching({ a: counted(900, 50), b: counted(0, 0) }, { a: counted(910, 50), b: counted(10, 4) });
  assert.deepEqual(watch.rates("handshakes", 1_000), { accepted: 20 });
  assert.deepEqual(watch.rates("handshake_codes", 1_000), { token_expired: 4 });
  assert.deepEqual(watch.rates("handshakes", 1_000 + LATELY), {});
});

test("a process that is new has counted from nothing, one that was away for a while has not", () => {
  const counted = (accepted, started_at) => node({ handshakes: { accepted }, started_at });
  const old = NOW - 60_000;
  const restarted = watching({ a: counted(500, old) }, { a: counted(3, NOW + 500) });
  assert.deepEqual(restarted.rates("handshakes", 1_000), { accepted: 3 });
  const late = watching({ a: counted(0, old) }, { a: counted(0, old), b: counted(7, NOW + 900), c: counted(9_000, old) });
  assert.deepEqual(late.rates("handshakes", 1_000), { accepted: 7 });
  const away = watching({ a: counted(0, old), b: counted(100, old) }, { a: counted(0, old) }, { a: counted(0, old), b: counted(130, old) });
  assert.deepEqual(away.rates("handshakes", 2_000), { accepted: 15 });
});

test("a timeline has each rise in the column of its time, the newest last", () => {
  const counted = (accepted) => ({ a: node({ handshakes: { accepted } }) });
  const watch = watching(counted(0), counted(1), counted(3), counted(3), counted(10));
  const line = watch.timeline("handshakes", 4_000, { width: 2_000, columns: 3 });
  assert.deepEqual(
    line.map(({ at, counts }) => [at, counts]),
    [
      [0, { accepted: 1 }],
      [2_000, { accepted: 2 }],
      [4_000, { accepted: 7 }],
    ],
  );
});

test("a node is behind where another one was some seconds ago, not where it is just now", () => {
  const at = (a, b) => ({ a: node({ positions: { 0: a } }), b: node({ positions: { 0: b } }) });
  const level = watching(at(10, 10), at(12, 10), at(14, 12), at(16, 14), at(18, 16));
  assert.equal(level.isBehind("b", 0, 4_000), false);
  const stuck = watching(at(10, 10), at(12, 10), at(14, 10), at(16, 10), at(18, 10));
  assert.deepEqual([stuck.isBehind("b", 0, 4_000), stuck.isBehind("a", 0, 4_000)], [true, false]);
});

test("the cliff is the second in which most end, wherever it lies, and told with its time", () => {
  assert.equal(worst(ahead()), null);
  assert.equal(worst(ahead({ "1s": { 20: 30 }, "10s": { 2: 30, 40: 31 } })).at, Math.floor(NOW / 10_000) * 10_000 + 400_000);
  const calm = outlook(stats({}, { forecast: ahead({ "1s": { 20: 30 } }, { 5: 10, 19: 10, 20: 9 }) }));
  assert.equal(calm.tone, "good");
  assert.match(calm.text, /^30 sessions end together, at .+, in 20 s: 30% of what can come back in a second\. 20 renewals are planned before that\.$/);
  const cliff = outlook(stats({}, { forecast: ahead({ "1s": { 20: 300 } }) }));
  assert.equal(cliff.tone, "bad");
  assert.match(cliff.text, /^Cliff ahead: 300 sessions end together, .* all are back 3 s later at the soonest\. No renewal is planned before that\.$/);
  assert.match(outlook(stats({}, { forecast: ahead({ "60s": { 9: 1 } }) })).text, /^1 session ends, within 60 s from .+ on, in 9 min: 1% /);
  assert.deepEqual([gravity(50, 100), gravity(51, 100), gravity(100, 100), gravity(101, 100)], ["good", "wait", "wait", "bad"]);
});

test("the scale is a round number, with the capacity in sight as soon as the bars come near it", () => {
  assert.deepEqual([0, 1, 1.2, 7, 11, 61, 1_100].map(round), [1, 1, 1.5, 8, 15, 80, 1_500]);
  for (const [peak, capacity] of [[0, 100], [25, 100], [300, 100]]) assert.ok(top(peak, capacity) >= capacity, `${peak} of ${capacity}`);
  assert.ok(top(24, 100) < 100);
  for (const peak of [1, 24, 300]) assert.ok(top(peak, 100) >= 1.15 * peak);
});

test("what wants a look is told with its reason, the gravest first; calm is nothing", () => {
  const now = 20_000;
  const of = (nodes, more) => {
    const watch = new Watch();
    watch.take(stats(nodes, more), now);
    return concerns(watch, now).map(({ tone, text }) => `${tone}: ${text}`);
  };
  assert.deepEqual(of({ a: node(), b: node() }), []);
  const away = { ready: false, not_ready: { "log away": "the event log cannot be reached" }, log_up: false };
  assert.deepEqual(
    of(
      {
        a: node({ loop_lag_seconds: 0.4, slow_sockets: 1, outbox_bytes: 2_097_152 }),
        b: node({ ...away, version: "0.2.0", unrecorded: 1_000 }),
        c: node({ ready: false, not_ready: { draining: "this node is being stopped" }, lag_seconds: 3 }),
        d: node({ lag_seconds: 1.1 }),
      },
      { forecast: ahead({ "1s": { 20: 101 } }) },
    ),
    [
      "bad: Cliff ahead: 101 sessions end together in 20 s, more than the 100 that can come back in a second.",
      "bad: b is not ready: log away (the event log cannot be reached).",
      "wait: a has too much to do: its event loop is 400 ms late.",
      "wait: a has 1 slow socket, 2 MiB unsent.",
      "wait: b has 1,000 events of sessions that wait for the log.",
      "wait: c is not ready: draining (this node is being stopped).",
      "wait: d is 1.1 s behind the log.",
      "wait: The nodes run different versions: 0.1.0, 0.2.0.",
    ],
  );
});

test("a node that is gone is missed by a page that never saw it, for as long as the cluster has; one that has drained is no concern", () => {
  const watch = new Watch();
  watch.take(stats({ b: node() }, { gone: { c: { silent_seconds: 4, draining: true }, a: { silent_seconds: 90.4, draining: false } } }), 0);
  assert.deepEqual(
    watch.nodes(2_000).map(({ name, here, silent, drained }) => [name, here, silent, drained]),
    [
      ["a", false, 92_400, false],
      ["b", true, undefined, undefined],
      ["c", false, 6_000, true],
    ],
  );
  assert.deepEqual(concerns(watch, 2_000), [{ tone: "bad", key: "a gone", text: "a has not been heard for 92 s." }]);
  watch.take(stats({ a: node(), b: node() }), 1_000);
  assert.deepEqual([watch.nodes(1_000).map(({ here }) => here), concerns(watch, 1_000)], [[true, true], []]);
});

test("refusals are told with their commonest code", () => {
  const counted = (refused, codes) => node({ handshakes: { accepted: 0, refused, busy: 0 }, handshake_codes: codes });
  const watch = watching({ a: counted(0, {}) }, { a: counted(30, { key_unknown: 10, signature_invalid: 20, server_busy: 50 }) });
  assert.deepEqual(
    concerns(watch, 5_000).map(({ text }) => text),
    [
      "More handshakes are refused than accepted: 6 a second, most of them signature_invalid.",
    ],
  );
});

test("a drain says how many go, where to, and when there is nowhere to go", () => {
  const nodes = { a: node({ sessions: 12 }), b: node(), c: node({ ready: false }) };
  const some = drain("a", stats(nodes), "a");
  assert.equal(some.count, 12);
  assert.deepEqual(some.effects, [
    "They are told to come back elsewhere: b can let in 100 a second.",
    "Then its process ends; what runs it may start it again.",
    "This page is on it, and goes elsewhere too.",
  ]);
  assert.match(drain("b", stats({ b: node(), c: nodes.c }), "c").effects[0], /^No other node is ready/);
  assert.deepEqual(some.fields(), { node: "a" });
});

test("a suspension lasts for good, for a time, or until a moment that lies ahead", () => {
  assert.equal(untilOf({ choice: "good", moment: "" }, NOW), null);
  assert.equal(untilOf({ choice: "hour", moment: "" }, NOW), NOW + 3_600_000);
  assert.equal(untilOf({ choice: "moment", moment: "2099-05-04T12:30" }, NOW), new Date("2099-05-04T12:30").getTime());
  for (const moment of ["", "soon", "2001-01-01T00:00"]) assert.equal(untilOf({ choice: "moment", moment }, NOW), undefined);
});

test("numbers, times and places read well", () => {
  assert.deepEqual([0, 119_000, 120_000, 3_600_000, 11_520_000, 273_600_000].map(lasting), ["0 s", "119 s", "2 min", "1 h", "3 h 12 min", "3 d 4 h"]);
  assert.deepEqual([0, 1_023, 1_536, 204_800, 1_572_864].map(bytes), ["0 B", "1023 B", "1.5 KiB", "200 KiB", "1.5 MiB"]);
  assert.deepEqual([0.0094, 0.9996, 12.34].map(delay), ["9 ms", "1.0 s", "12.3 s"]);
  assert.deepEqual([places({ n2: 3 }), places({ n2: 5, n1: 7 })], ["n2", "n1 (7), n2 (5)"]);
});

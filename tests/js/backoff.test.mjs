import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../../node/edge/web/tidegate/backoff.js";
import { Route } from "../../node/edge/web/tidegate/route.js";
import { seeded } from "./seeded.mjs";

const URLS = ["http://a.test:1", "http://b.test:1", "http://c.test:1"];

test("waits stay between floor and cap, and the first is short", () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const backoff = new Backoff({ random: seeded(seed) });
    const first = backoff.next();
    assert.ok(first >= 100 && first < 1_000, `${first}`);
    for (let at = 0; at < 40; at += 1) {
      const wait = backoff.next();
      assert.ok(wait >= 100 && wait <= 20_000, `${wait}`);
    }
  }
});

test("a crowd that has failed for long does not knock in the same moment", () => {
  const waits = [];
  for (let seed = 1; seed <= 1_000; seed += 1) {
    const backoff = new Backoff({ random: seeded(seed) });
    for (let at = 0; at < 30; at += 1) backoff.next();
    waits.push(backoff.next());
  }
  const inOneTenth = (tenth) => waits.filter((wait) => Math.floor(wait / 2_000) === tenth).length;
  const tallest = Math.max(...Array.from({ length: 10 }, (_, tenth) => inOneTenth(tenth)));
  assert.ok(tallest < 500, `${tallest} of 1,000 within one tenth of the range`);
  assert.equal(new Set(waits.map(Math.round)).size > 900, true);
});

test("waits grow while it keeps failing", () => {
  const backoff = new Backoff({ random: () => 0.9 });
  const waits = Array.from({ length: 8 }, () => backoff.next());
  assert.deepEqual([...waits].sort((a, b) => a - b), waits);
  assert.ok(waits.at(-1) > 10_000);
});

test("a server's word is a lower bound and is spread", () => {
  for (let seed = 1; seed <= 100; seed += 1) {
    const wait = new Backoff({ random: seeded(seed) }).after(4_000);
    assert.ok(wait >= 4_000 && wait <= 6_000, `${wait}`);
  }
});

test("a reset makes the next wait short again", () => {
  const backoff = new Backoff({ random: () => 0.99 });
  for (let at = 0; at < 10; at += 1) backoff.next();
  backoff.reset();
  assert.ok(backoff.next() < 1_000);
});

test("a lost connection is tried again where it was, then the other nodes once each, then it waits", () => {
  const route = new Route(URLS, seeded(3));
  assert.equal(route.url, URLS[0]);
  assert.ok(route.after({ code: "lost", welcomed: true, lasted: 60_000 }) < 1_000);
  assert.equal(route.url, URLS[0]);
  const tried = [];
  for (let at = 0; at < 2; at += 1) {
    assert.ok(route.after({ code: "lost" }) <= 300);
    tried.push(route.url);
  }
  assert.deepEqual(tried.sort(), URLS.slice(1));
  assert.ok(route.after({ code: "lost" }) >= 100);
  assert.equal(route.url, URLS[0]);
});

test("a draining node is left, after the time it asked for", () => {
  const route = new Route(URLS, seeded(4));
  const wait = route.after({ code: "draining", retryAfter: 800, welcomed: true, lasted: 60_000 });
  assert.ok(wait >= 800);
  assert.notEqual(route.url, URLS[0]);
});

test("a busy node's word counts once every node has been asked", () => {
  const route = new Route(URLS, seeded(5));
  assert.ok(route.after({ code: "server_busy", retryAfter: 5_000 }) <= 300);
  assert.ok(route.after({ code: "server_busy", retryAfter: 2_000 }) <= 300);
  assert.ok(route.after({ code: "server_busy", retryAfter: 1_000 }) >= 5_000);
});

test("an expired token and a missing one do not blame the node", () => {
  const route = new Route(URLS, seeded(6));
  route.after({ code: "token_expired" });
  route.after({ code: "token_unavailable" });
  assert.equal(route.url, URLS[0]);
});

test("a round is over once every node has been asked in vain, and none is counted for a connection or a token", () => {
  const route = new Route(URLS, seeded(8));
  const rounds = ["lost", "token_unavailable", "server_busy", "lost", "token_expired", "lost", "lost", "lost"].map((code) => {
    route.after({ code });
    return route.rounds;
  });
  assert.deepEqual(rounds, [0, 0, 0, 1, 1, 1, 1, 2]);
  route.after({ code: "lost", welcomed: true, lasted: 60_000 });
  assert.equal(route.rounds, 0);
});

test("the first node is first for everyone, the second is not", () => {
  const seconds = new Set();
  for (let seed = 1; seed <= 40; seed += 1) {
    const route = new Route(URLS, seeded(seed));
    assert.equal(route.url, URLS[0]);
    route.after({ code: "lost" });
    seconds.add(route.url);
  }
  assert.deepEqual([...seconds].sort(), URLS.slice(1));
});

test("a chosen node is next, known before or not", () => {
  const route = new Route(URLS, seeded(7));
  route.choose("http://c.test:1/");
  assert.equal(route.url, URLS[2]);
  route.choose("http://d.test:1");
  assert.equal(route.url, "http://d.test:1");
  assert.equal(route.after({ code: "moved", welcomed: true }), 0);
});

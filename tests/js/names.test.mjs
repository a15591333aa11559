import assert from "node:assert/strict";
import { test } from "node:test";
import { directName, nameFrom } from "../../node/edge/web/names.js";
import { Nodes } from "../../node/edge/web/nodes.js";

const ROOM = /^[a-z0-9][a-z0-9._-]{0,63}$/; // of the protocol

test("a title becomes a name that the protocol takes", () => {
  assert.equal(nameFrom("Harbour office"), "harbour-office");
  assert.equal(nameFrom("  Zürich & Café  "), "zurich-cafe");
  assert.equal(nameFrom("v1.2_final"), "v1.2_final");
  for (const title of ["x".repeat(200), `${"x".repeat(63)} yz`, "-a-", "Гавань", "港", "٣", "Ⅷ", "a !!!"]) assert.match(nameFrom(title), ROOM, title);
});

test("a title in letters of another script has a name of its own, always the same", () => {
  assert.equal(nameFrom("Гавань "), nameFrom("гавань"));
  assert.notEqual(nameFrom("Гавань"), nameFrom("Причал"));
});

test("without a letter or a digit there is no name", () => {
  for (const title of ["", "   ", "!!!", "-", "🎉"]) assert.equal(nameFrom(title), "", title);
});

test("a direct room has one name, whoever makes it", () => {
  assert.equal(directName(["ann", "bob"]), directName(["bob", "ann"]));
  assert.notEqual(directName(["ann", "bob"]), directName(["ann", "bo"]));
  assert.match(directName(["zoe <i>", "Ünal"]), ROOM);
});

test("a node goes by its name once it has said it, and by its address where several answer there", () => {
  const nodes = new Nodes(["http://a.test:1", "http://b.test"]);
  nodes.learn("http://a.test:1", "n1");
  assert.equal(nodes.nameOf("http://a.test:1"), "n1");
  assert.equal(nodes.fullNameOf("http://a.test:1"), "n1 · a.test:1");
  assert.equal(nodes.nameOf("http://b.test"), "b.test");
  assert.equal(nodes.fullNameOf("http://b.test"), "b.test");
  for (const name of ["n1", "n2", "n1"]) nodes.learn("http://b.test", name);
  assert.equal(nodes.nameOf("http://b.test"), "b.test");
  assert.equal(nodes.fullNameOf("http://b.test"), "b.test");
});

"""The client module as other people's pages use it: imported from a node by a page of another origin."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.browser.conftest import MeetPerson
from tests.support.nodes import Cluster
from tests.support.tokens import token

PAGE = b"<!doctype html><title>Another site</title>"


class Elsewhere(BaseHTTPRequestHandler):
    """A site with one page and nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 204)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE if self.path == "/" else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The other site's origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_page_of_another_origin_chats_through_the_module(elsewhere: str, meet: MeetPerson, tmp_path: Path) -> None:
    """Two clients in one foreign page: what one sends the other gets in order, and a wrong token asks for a sign-in."""
    with Cluster(tmp_path, {"origins": elsewhere}, count=1) as cluster:
        guest = meet("guest")
        guest.page.goto(elsewhere)
        found = guest.page.evaluate(
            """async ({ node, tokens }) => {
              const { connect } = await import(`${node}/tidegate.js`);
              const client = (token) => {
                const tide = connect({ url: node, getToken: async () => token });
                const states = [];
                tide.on("status", (status) => states.push(status));
                return { tide, states };
              };
              const reached = (one, state) => new Promise((resolve) => {
                const look = () => {
                  const last = one.states.find((status) => status.state === state);
                  if (last) resolve(last);
                  return last !== undefined;
                };
                if (!look()) one.tide.on("status", look);
              });
              const [ann, bob, eve] = [client(tokens.ann), client(tokens.bob), client("not a token")];
              const refused = await reached(eve, "sign-in");
              await ann.tide.request("room:create", { room: "module" });
              await bob.tide.request("room:join", { room: "module" });
              const texts = Array.from({ length: 30 }, (_, at) => `word ${at}`);
              const heard = [];
              const all = new Promise((resolve) => bob.tide.on("message", ({ text }) => heard.push(text) === texts.length && resolve()));
              const sent = await Promise.all(texts.map((text) => ann.tide.send({ room: "module", text })));
              await all;
              const cursors = bob.tide.resume.cursors;
              for (const { tide } of [ann, bob, eve]) tide.close();
              const closed = await bob.tide.send({ room: "module", text: "late" }).catch(({ code }) => code);
              return { refused: refused.code, heard, seqs: sent.map(({ seq }) => seq), cursors, closed };
            }""",
            {"node": cluster[0].url, "tokens": {"ann": token("ann"), "bob": token("bob")}},
        )
    assert found["refused"] == "token_malformed"
    assert found["heard"] == [f"word {at}" for at in range(30)]
    assert found["seqs"] == list(range(3, 33))
    assert found["cursors"] == {"module": 32}
    assert found["closed"] == "closed"

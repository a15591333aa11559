"""The client module as other people's pages use it: imported from a node by a page of another origin."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MeetPerson, free_ports
from tests.browser.person import PATIENCE_MS, Person
from tests.support.nodes import ROOT, Cluster
from tests.support.tokens import token

GUIDE = ROOT / "docs" / "client.md"
pytestmark = pytest.mark.timeout(120)


class Site:
    """Another site: one page, and nothing else."""

    page = "<!doctype html><title>Another site</title>"

    def __init__(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/" else 204)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(site.page.encode() if self.path == "/" else b"")

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def new_site() -> Iterator[Callable[[], Site]]:
    """Sites, each of an origin of its own."""
    with ExitStack() as stack:

        def new_site() -> Site:
            site = Site()
            stack.enter_context(site.server)
            thread = threading.Thread(target=site.server.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(site.server.shutdown)
            return site

        yield new_site


@pytest.fixture(scope="module")
def elsewhere(new_site: Callable[[], Site]) -> Site:
    """One of them."""
    return new_site()


@pytest.fixture(scope="module")
def node(elsewhere: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a node that takes its pages."""
    settings = {"origins": elsewhere.origin, "dev_issuer": "1"}
    with Cluster(tmp_path_factory.mktemp("module"), settings, count=1) as cluster:
        yield cluster[0].url


def example(language: str, start: str) -> str:
    """The guide's block of code that has this in it."""
    found = [block for block in re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL) if start in block]
    assert len(found) == 1, f"{len(found)} examples have {start!r}"
    return str(found[0])


def test_a_page_of_another_origin_chats_through_the_module(elsewhere: Site, node: str, meet: MeetPerson) -> None:
    """Two clients in one foreign page: what one sends the other gets in order, and a wrong token asks for a sign-in."""
    guest = meet("guest")
    guest.page.goto(elsewhere.origin)
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
        {"node": node, "tokens": {"ann": token("ann"), "bob": token("bob")}},
    )
    assert found["refused"] == "token_malformed"
    assert found["heard"] == [f"word {at}" for at in range(30)]
    assert found["seqs"] == list(range(3, 33))
    assert found["cursors"] == {"module": 32}
    assert found["closed"] == "closed"


def first_trouble(guest: Person, module: str, node: str, token: str | None) -> dict[str, Any]:
    """What the first `reconnecting` of a client of `node` says, and what a command given meanwhile is rejected with.

    Without a token its issuer is one that fails.
    """
    found: dict[str, Any] = guest.page.evaluate(
        """async ({ node, module, token }) => {
          const { connect } = await import(`${module}/tidegate.js`);
          const getToken = () => (token === null ? Promise.reject(new Error("the issuer answered 500")) : Promise.resolve(token));
          const tide = connect({ url: node, getToken });
          const trouble = new Promise((resolve) => tide.on("status", (status) => status.state === "reconnecting" && resolve(status)));
          const { code, message, rounds, wait } = await trouble;
          const command = await tide.request("room:list", {}, { timeout: 1 }).catch((error) => `${error.code}: ${error.message}`);
          tide.close();
          return { code, message, rounds, wait, command };
        }""",
        {"node": node, "module": module, "token": token},
    )
    return found


def test_each_trouble_is_told_as_the_guide_has_it(
    elsewhere: Site, new_site: Callable[[], Site], meet: MeetPerson, tmp_path: Path
) -> None:
    """A token that cannot be had, a node that is down, one that is full, and one that does not take the page's origin."""
    with Cluster(tmp_path, {"origins": elsewhere.origin, "max_sessions": "1"}, count=1) as cluster:
        node, down = cluster[0].url, f"http://127.0.0.1:{free_ports(1)[0]}"
        good = token("guest")
        guest, holder, stranger = meet("guest"), meet("holder"), meet("stranger")
        guest.page.goto(elsewhere.origin)
        found = first_trouble(guest, node, node, None)
        assert (found["code"], found["message"], found["rounds"]) == ("token_unavailable", "the issuer answered 500", 0)
        assert found["command"] == "lost: not connected: token_unavailable, the issuer answered 500"
        guest.may_lose_nodes = True
        found = first_trouble(guest, node, down, good)
        assert (found["code"], found["rounds"]) == ("lost", 1)

        holder.page.goto(node)
        holder.page.evaluate(
            """async (token) => {
              const { connect } = await import("/tidegate.js");
              const tide = connect({ url: location.origin, getToken: async () => token });
              await tide.request("room:list", {});
            }""",
            token("holder"),
        )
        found = first_trouble(guest, node, node, good)
        assert (found["code"], found["rounds"]) == ("server_busy", 1)
        holder.may_lose_nodes = True
        found = first_trouble(holder, node, node, good)
        assert found["code"] == "server_busy"
        assert found["wait"] >= 1_000, "Retry-After can be read on the node's own origin"

        stranger.page.goto(new_site().origin)
        found = first_trouble(stranger, node, node, good)
        assert (found["code"], found["rounds"]) == ("lost", 1)
        assert any("blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present" in one for one in stranger.wrong)
        stranger.wrong.clear()


def tickets_of(guest: Person) -> Callable[[], list[str | None]]:
    """The tickets in the URLs of the WebSockets that the page opens from now on, as they are when asked."""
    opened: list[str | None] = []

    def note(url: str) -> None:
        query = parse_qs(urlsplit(url).query)
        if "EIO" in query:
            opened.append(query.get("ticket", [None])[0])

    guest.page.on("websocket", lambda websocket: note(websocket.url))
    return lambda: opened


def test_who_comes_back_brings_the_ticket_of_the_last_welcome(elsewhere: Site, node: str, meet: MeetPerson) -> None:
    """Each connection but the first has the ticket of the one before in its query; another client's `resume` has it too."""
    guest = meet("guest")
    guest.page.goto(elsewhere.origin)
    opened = tickets_of(guest)
    given = guest.page.evaluate(
        """async ({ node, token }) => {
          const { connect } = await import(`${node}/tidegate.js`);
          const getToken = async () => token;
          const welcomed = (tide) => new Promise((resolve) => {
            const off = tide.on("status", (status) => status.state === "connected" && (off(), resolve(status.ticket)));
          });
          const tide = connect({ url: node, getToken });
          const tickets = [await welcomed(tide)];
          for (let at = 0; at < 2; at += 1) {
            tide.move(node);
            tickets.push(await welcomed(tide));
          }
          const { resume } = tide;
          tide.close();
          const next = connect({ url: node, getToken, resume });
          await welcomed(next);
          next.close();
          return tickets;
        }""",
        {"node": node, "token": token("guest")},
    )
    assert len(set(given)) == 3
    assert opened() == [None, *given]


def test_the_guides_trial_works_on_a_fresh_cluster_and_again(
    elsewhere: Site, node: str, meet: MeetPerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of the guide, as it stands there but for the ports: it makes the room, and the next time it joins it."""
    page = re.sub(r"http://127\.0\.0\.1:800\d", node, example("html", "Promise.any"))
    monkeypatch.setattr(elsewhere, "page", page)
    guest = meet("guest")
    guest.page.goto(elsewhere.origin)
    log = guest.page.locator("#log")
    expect(log).to_contain_text("lobby 2 ann: hello", timeout=PATIENCE_MS)
    expect(log).to_contain_text("connected")
    guest.page.reload()
    expect(log).to_contain_text("lobby 3 ann: hello", timeout=PATIENCE_MS)


def test_a_stock_client_as_the_guide_has_it_brings_its_ticket(elsewhere: Site, node: str, meet: MeetPerson) -> None:
    """The guide's lines for socket.io-client: a lost transport is resumed, with the ticket in the query."""
    lines = example("js", "auth: async (give)") + example("js", "opts.query")
    guest = meet("guest")
    guest.page.goto(elsewhere.origin)
    opened = tickets_of(guest)
    given = guest.page.evaluate(
        """async ({ node, token, lines }) => {
          const { io } = await import(`${node}/web/vendor/socket.io.esm.min.js`);
          const stock = (url, options) => io(url, { transports: ["websocket"], ...options });
          const socket = new Function("io", "freshToken", `${lines}; return socket;`)(stock, async () => token);
          const next = () => new Promise((resolve) => socket.once("welcome", resolve));
          const first = await next();
          socket.io.engine.close();
          const second = await next();
          socket.close();
          return { ticket: first.ticket, resumed: second.resumed };
        }""",
        {"node": node, "token": token("guest"), "lines": lines.replace("https://a.example.org", node)},
    )
    assert given["resumed"] is True
    assert opened() == [None, given["ticket"]]

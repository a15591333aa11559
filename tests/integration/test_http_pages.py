"""What a browser gets from a real node: pages, their files and policy, and what other origins may read."""

import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from node.edge.pages import LIBRARIES, WEB, Pages
from tests.support.http import bearer, failure, fetch, sync_http
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import block_until

PEERS = "http://127.0.0.1:8002,https://chat.example.org"
FRIEND, STRANGER = "https://friend.example.org", "https://evil.example.org"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self' http://127.0.0.1:8002 ws://127.0.0.1:8002 https://chat.example.org wss://chat.example.org; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with peers and a friendly origin."""
    settings = {"dev_issuer": "1", "peers": PEERS, "origins": FRIEND}
    with Cluster(tmp_path_factory.mktemp("pages"), settings, count=1) as nodes:
        yield nodes


@pytest.fixture
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    with sync_http(base_url=cluster[0].url) as client:
        yield client


def test_config(http: httpx.Client) -> None:
    """The page learns which node it is on, its peers, and whether there is a dev issuer."""
    body = http.get("/config.json").json()
    assert body == {"node": "n1", "version": body["version"], "peers": PEERS.split(","), "dev_issuer": True}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", body["version"])


@pytest.mark.nodejs
def test_the_chat_page(http: httpx.Client) -> None:
    """The chat page is HTML under a policy that lets in nothing but this node and its peers."""
    answer = http.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.text.lower().startswith("<!doctype html>")
    assert "<style" not in answer.text and not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", answer.text)


@pytest.mark.nodejs
def test_everything_the_pages_name_is_there(http: httpx.Client) -> None:
    """Each file that a page or a module of ours refers to is served with a type that a browser takes under `nosniff`."""
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "png": "image/png"}
    seen: set[str] = set()
    waiting = ["/", "/ops", "/tidegate.js"]
    while waiting:
        path = waiting.pop()
        answer = http.get(path)
        assert answer.status_code == 200, path
        if "." in path:
            assert answer.headers["content-type"].split(";")[0] == types[path.rpartition(".")[2]], path
        text = answer.text if answer.headers["content-type"].startswith("text/") else ""
        for reference in re.findall(
            r"""\b(?:(?:src|href)=(?=["'][\w./])|(?:from|import) ?(?=["'][./]))["']([^"'#:]+)["']""", text
        ):
            target = httpx.URL(f"{http.base_url}{path}").join(reference).path
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    assert {"/web/ops.js", "/web/ops/bars.js", "/web/ops.css", "/web/vendor/socket.io.esm.min.js"} <= seen


@pytest.mark.nodejs
def test_the_ops_page(http: httpx.Client) -> None:
    """The page that asks for an admin token is there without one, and holds nothing of the cluster."""
    answer = http.get("/ops")
    assert answer.status_code == 200 and answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "<style" not in answer.text and not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", answer.text)


def test_a_page_without_its_libraries(tmp_path: Path) -> None:
    """Where npm's libraries are missing either page is one plain line that says how to get them."""
    shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns(LIBRARIES))
    pages = Pages((), tmp_path / "web")
    with serving(Starlette(routes=[Route("/", pages.chat), Route("/ops", pages.ops)])) as url:
        for answer in (fetch(url), fetch(f"{url}/ops")):
            assert answer.status_code == 503 and answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert answer.text.count("\n") == 1 and "npm" in answer.text and "make page" in answer.text


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The URL of an app that a server in a thread serves."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            block_until(lambda: server.started, 10, "the server has started")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


# Files


def test_files_are_validated_not_kept(http: httpx.Client) -> None:
    """A file comes with an ETag and is asked for again each time; unchanged, it is a 304 without a body."""
    first = http.get("/web/ops.js")
    assert first.content == (WEB / "ops.js").read_bytes()
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "no-cache" and first.headers["x-content-type-options"] == "nosniff"
    etag = first.headers["etag"]
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = http.get("/web/ops.js", headers={"If-None-Match": header})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert http.get("/web/ops.js", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/ops", "/web/ops.js", "/healthz", "/readyz", "/metrics", "/config.json"])
def test_head(http: httpx.Client, path: str) -> None:
    """HEAD is GET without the body."""
    head, got = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # grows from one scrape to the next
        assert head.headers["content-length"] == got.headers["content-length"]


def test_every_answer_is_guarded(http: httpx.Client) -> None:
    """No answer may be sniffed, framed, or tell where its reader came from; none but files may be kept."""
    for path in ("/", "/ops", "/web/ops.js", "/healthz", "/metrics", "/config.json", "/api/cluster", "/nothing"):
        headers = http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] in ("no-store", "no-cache")


# Other origins


@pytest.mark.parametrize("origin", [FRIEND, *PEERS.split(",")])
def test_friendly_origins(http: httpx.Client, origin: str) -> None:
    """Pages of peers and of configured origins may ask before they ask, and read answers and errors."""
    for path, method in (
        ("/config.json", "GET"),
        ("/dev/token", "POST"),
        ("/api/rooms/r/messages", "POST"),
        ("/api/cluster", "GET"),
    ):
        ask = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization"}
        preflight = http.options(path, headers=ask)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == origin
        assert method in preflight.headers["access-control-allow-methods"]
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        answer = http.request(method, path, headers={"Origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers
        assert "Retry-After" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin", [STRANGER, "null", "https://friend.example.org.evil.example", "http://friend.example.org", "*"]
)
def test_strange_origins(http: httpx.Client, origin: str) -> None:
    """Other origins may read none of it, with a good token neither."""
    headers = {"Origin": origin} | bearer(token("root", scope="admin"))
    for path in ("/config.json", "/api/cluster"):
        answer = http.get(path, headers=headers)
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-origin" not in http.options(path, headers=headers).headers


def test_same_origin(http: httpx.Client, cluster: Cluster) -> None:
    """The node's own page may read its API."""
    answer = http.get("/config.json", headers={"Origin": cluster[0].url})
    assert answer.headers["access-control-allow-origin"] == cluster[0].url


@pytest.mark.nodejs
def test_other_peoples_pages_may_import_the_client(http: httpx.Client) -> None:
    """The client module and what it imports are code without secrets: any origin may load them."""
    assert http.get("/tidegate.js", headers={"Origin": STRANGER}).headers["access-control-allow-origin"] == "*"
    for path in ("/healthz", "/metrics", "/", "/ops"):
        assert "access-control-allow-origin" not in http.get(path, headers={"Origin": STRANGER}).headers


# Methods and paths


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/web/ops.js", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/dev/token", "OPTIONS, POST"),
        ("/api/revoke", "OPTIONS, POST"),
        ("/api/rooms/r/messages", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_methods(http: httpx.Client, path: str, allow: str) -> None:
    """A method that a path does not take is refused with those that it takes."""
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - set(allow.split(", ")):
        answer = http.request(method, path)
        failure(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allow
    options = http.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allow, b"")


@pytest.mark.parametrize(
    "path", ["/nothing", "/ops/", "/healthz/", "/api", "/api/", "/api/rooms", "/api/rooms//messages", "/dev"]
)
def test_paths_that_are_none(http: httpx.Client, path: str) -> None:
    """What is not there is said in JSON, without a redirect."""
    failure(http.get(path), 404, "not_found")

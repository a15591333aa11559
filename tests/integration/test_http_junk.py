"""What an adversary sends over HTTP: each is answered with the right code, or costs only its own connection."""

import json
import re
import time
from collections.abc import Iterator

import httpx
import jwt
import pytest

from tests.support.http import bearer, exchange, failure, fetch, sync_http
from tests.support.nodes import Cluster
from tests.support.tokens import SECRET, token

LIMIT = 65_536


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node; at the end it is alive, and has logged no exception."""
    with Cluster(tmp_path_factory.mktemp("junk"), {"dev_issuer": "1", "commands_per_second": "1000"}, count=1) as nodes:
        yield nodes
        assert fetch(f"{nodes[0].url}/readyz").json() == {"ready": True}


@pytest.fixture
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    with sync_http(base_url=cluster[0].url) as client:
        yield client


# Tokens


def tampered() -> str:
    head, _, signature = token("ann").split(".")
    return ".".join((head, token("bob").split(".")[1], signature))


def unsigned() -> str:
    return jwt.encode({"sub": "ann", "exp": time.time() + 60}, "", algorithm="none")


@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (None, "token_missing"),
        ("Basic YW5uOnB3", "token_missing"),
        ("", "token_missing"),
        ("Bearer", "token_malformed"),
        ("Bearer x", "token_malformed"),
        ("Bearer a.b", "token_malformed"),
        ("Bearer a.b.c d", "token_malformed"),
        ("Bearer " + "a" * 8_193, "token_too_large"),
        (token("ann", ttl=-1), "token_expired"),
        (token("ann", exp=None), "claim_missing"),
        (token("ann", sub=None), "claim_missing"),
        (token("ann", nbf=time.time() + 3_600), "token_not_yet_valid"),
        (token("ann", secret="another secret that is long enough for it"), "signature_invalid"),
        (tampered(), "signature_invalid"),
        (unsigned(), "algorithm_not_allowed"),
        (jwt.encode({"sub": "ann", "exp": time.time() + 60}, SECRET * 2, algorithm="HS512"), "algorithm_not_allowed"),
        (token("ann", scope=None, exp="soon"), "token_malformed"),
        (token("x" * 129), "token_malformed"),
    ],
    ids=lambda value: "a token" if str(value).startswith("ey") else None,  # the same in every process that collects them
)
def test_credentials(http: httpx.Client, credential: str | None, code: str) -> None:
    """Every way for a token to be wrong has its code, with 401; the answer repeats nothing of it."""
    value = credential if credential is None or credential[:1] in ("B", "") else f"Bearer {credential}"
    headers = {} if value is None else {"Authorization": value}
    for method, path in (("GET", "/api/cluster"), ("POST", "/api/revoke"), ("GET", "/api/rooms/r/messages")):
        answer = http.request(method, path, headers=headers)
        failure(answer, 401, code)
        assert credential is None or len(credential) < 40 or credential[-30:] not in answer.text


def test_a_token_comes_in_the_header_only(http: httpx.Client) -> None:
    """A token in the query, in a cookie or in the body is none."""
    good = token("root", scope="admin chat")
    failure(http.get(f"/api/cluster?token={good}&access_token={good}"), 401, "token_missing")
    failure(http.get("/api/cluster", headers={"Cookie": f"token={good}"}), 401, "token_missing")
    failure(http.post("/api/revoke", json={"user": "x", "token": good}), 401, "token_missing")


def test_two_authorization_headers(http: httpx.Client) -> None:
    """Two credentials in one request are refused, whatever they are."""
    good = f"Bearer {token('root', scope='admin')}"
    answer = http.get("/api/cluster", headers=[("Authorization", good), ("Authorization", good)])
    failure(answer, 401, "credentials_conflict")


def test_the_scheme_is_not_case_sensitive(http: httpx.Client) -> None:
    """`bearer` is `Bearer`."""
    assert http.get("/api/cluster", headers={"Authorization": f"bEARER  {token('root', scope='admin')}"}).status_code == 200


# Bodies

BODIES = (
    b"",
    b"{",
    b"nothing",
    b"\xff\xfe{}",
    b"\x00",
    b'{"text": "\\ud800"}',
    b'{"text": NaN}',
    b"[" * 60_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"text": "hi"} {"text": "hi"}',
    b"text=hi",
    b"1" * 5_000,
)


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_json(http: httpx.Client, body: bytes) -> None:
    """What is not JSON, or not an object, is a bad request on every path that takes a body."""
    headers = bearer(token("root", scope="admin publish"))
    for path in ("/api/rooms/r/messages", "/api/revoke", "/dev/token"):
        failure(http.post(path, content=body, headers=headers), 400, "bad_request")


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "text", [], [{"text": "hi", "user": "ann"}]])
def test_bodies_that_are_no_object(http: httpx.Client, value: object) -> None:
    """JSON that is not an object is a bad request."""
    headers = bearer(token("root", scope="admin publish"))
    for path in ("/api/rooms/r/messages", "/api/revoke", "/dev/token"):
        failure(http.post(path, json=value, headers=headers), 400, "bad_request")


@pytest.mark.parametrize("value", [None, True, 5, 1e400, [], {}, {"a": {"b": []}}, "", "\0", "x" * 10_000])
def test_values_of_every_type(http: httpx.Client, value: object) -> None:
    """A field of any wrong type, or far too long, is refused and never an error of ours."""
    headers = bearer(token("root", scope="admin publish"))
    content = json.dumps({"text": value, "id": value, "user": value, "jti": value, "before": value, "ttl": value})
    for path in ("/api/rooms/r/messages", "/api/revoke", "/dev/token"):
        assert http.post(path, content=content, headers=headers).status_code in (400, 404)


def test_bodies_that_are_too_large(http: httpx.Client) -> None:
    """One byte over the limit is refused, whether its length is told or not; what fits is looked at."""
    headers = bearer(token("root", scope="admin publish"))

    def chunks(size: int) -> Iterator[bytes]:
        yield from (b" " * 1_000 for _ in range(size // 1_000))
        yield b" " * (size % 1_000)

    for path in ("/api/rooms/r/messages", "/api/revoke", "/dev/token"):
        failure(http.post(path, content=b" " * (LIMIT + 1), headers=headers), 413, "too_large")
        failure(http.post(path, content=chunks(LIMIT + 1), headers=headers), 413, "too_large")
        failure(http.post(path, content=b" " * LIMIT, headers=headers), 400, "bad_request")


def test_a_body_is_not_read_for_nobody(http: httpx.Client) -> None:
    """Without a good token it does not matter what the body is."""
    for body in (b"", b"{", b" " * (LIMIT + 1)):
        failure(http.post("/api/revoke", content=body), 401, "token_missing")


def test_a_body_that_never_ends(cluster: Cluster) -> None:
    """Whoever closes in the middle of a body is forgotten, and nobody else notices."""
    head = f"POST /api/revoke HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token('root', scope='admin')}\r\n"
    for rest in ("Content-Length: 50\r\n\r\n{", 'Transfer-Encoding: chunked\r\n\r\n5\r\n{"use', "Content-Length: 50\r\n\r\n"):
        found = exchange(cluster[0].address, (head + rest).encode(), end=True)
        assert found == b"" or found.startswith(b"HTTP/1.1 400 ")
        assert fetch(f"{cluster[0].url}/healthz").status_code == 200


# Requests

TRAVERSALS = (
    "/web/../http.py",
    "/web/../../app.py",
    "/web/..%2fhttp.py",
    "/web/%2e%2e/http.py",
    "/web/%2e%2e%2fhttp.py",
    "/web/%252e%252e/http.py",
    "/web/..\\http.py",
    "/web/..%5chttp.py",
    "/web//etc/passwd",
    "/web//",
    "/web/",
    "/web",
    "/web/.",
    "/web/./ops.js",
    "/web/.hidden.js",
    "/web/vendor",
    "/web/vendor/",
    "/web/vendor/../ops.js",
    "/web/ops.js/",
    "/web/ops.js%00",
    "/web/ops.js%00.html",
    "/web/ops.js%0a",
    "/web/ops",
    "/web/OPS.JS",
    "/web/http.py",
    "/web/" + "a/" * 50 + "b.js",
    "/web/" + "a" * 5_000 + ".js",
    "/web/%ff%fe.js",
    "/web/C:/x.js",
    "//etc/passwd",
    "/etc/passwd",
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/tidegate.js/../web/ops.js",
)


@pytest.mark.parametrize("path", TRAVERSALS)
def test_traversal(cluster: Cluster, path: str) -> None:
    """No path leads out of the folder of the pages, or to a file in it that is not meant."""
    found = exchange(cluster[0].address, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = found.split(b"\r\n", 1)[0]
    assert status == b"HTTP/1.1 404 Not Found"
    assert b'{"error":{"code":"not_found"' in found
    assert b"import " not in found and b"root:" not in found


REQUESTS = (
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS hello
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /dev/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /dev/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://example.org/healthz HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET /api/rooms/\xff/messages HTTP/1.1\r\nHost: x\r\n\r\n",
)


@pytest.mark.parametrize("request_bytes", REQUESTS, ids=range(len(REQUESTS)))
def test_requests_that_are_none(cluster: Cluster, request_bytes: bytes) -> None:
    """What is hardly HTTP gets an answer that is no success and no fault of ours, or a closed connection; the node lives on."""
    found = exchange(cluster[0].address, request_bytes)
    status = found.split(b" ", 2)[1] if found else b""
    assert status == b"" or (status[:1] in (b"2", b"4") and b"Traceback" not in found)
    assert fetch(f"{cluster[0].url}/healthz").status_code == 200


def test_pipelined_requests(cluster: Cluster) -> None:
    """Requests sent at once are answered one after the other, the bad one among them too."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    bad = b"POST /dev/token HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{"
    last = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    found = exchange(cluster[0].address, one + bad + one + last)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", found) == [b"200", b"400", b"200", b"200"]


def test_query_of_junk(http: httpx.Client) -> None:
    """Unknown, endless or ill-encoded query parameters change nothing."""
    headers = bearer(token("root", scope="admin"))
    for query in ("x=%ff", "a" * 20_000, "&".join("x=1" for _ in range(5_000)), "%00=%00", "before=1;after=2", "=&=&"):
        assert http.get(f"/api/cluster?{query}", headers=headers).status_code == 200

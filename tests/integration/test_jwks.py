"""Keys of an issuer over real HTTP on loopback: it rotates, fails, stalls and lies."""

import asyncio
import gzip
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from node.app import clock
from node.auth.denied import Denied
from node.auth.jwks import IssuerKeys, Pace
from node.auth.key_fetch import MOST_BYTES, KeyFetcher
from node.auth.key_set import FetchFailed, Issuer, insecure
from node.auth.keys import KeyRing, key_of_jwk
from node.auth.tokens import Policy
from node.auth.verifier import Verifier
from tests.support.issuer import Answer, IssuerServer, KeyPair, answer, issuer_server
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

PATIENCE_S = 5.0
A, B, C = KeyPair("a"), KeyPair("b", "ES256"), KeyPair("c", "EdDSA")
POLICY = Policy(algorithms=frozenset({"RS256", "ES256", "EdDSA"}))
SELDOM = Pace(refresh_s=3_600, cooldown_s=3_600, retry_s=3_600, longest_retry_s=3_600)  # nothing happens but what a test asks for


class World:
    """A verifier on the keys of one issuer."""

    def __init__(self, issuer: Issuer, pace: Pace, fixed: KeyRing) -> None:
        self.outcomes: list[str] = []
        fetcher = KeyFetcher(issuer, limit_s=1.0)
        self.keys = IssuerKeys(fetcher.fetch, fixed=fixed, pace=pace, draw=lambda: 0.5, fetched=self.outcomes.append)
        self.verifier = Verifier(self.keys, POLICY, clock=clock, observe=lambda *_: None)

    async def verdict(self, token: str) -> Denied | None:
        found = await self.verifier.verify(token)
        return found if isinstance(found, Denied) else None

    async def judge(self, token: str) -> str:
        denied = await self.verdict(token)
        return denied.code if denied is not None else "accepted"


@asynccontextmanager
async def world_of(server: IssuerServer, pace: Pace, fixed: KeyRing | None = None) -> AsyncIterator[World]:
    """The keys of the server's set, with what fetches them running."""
    world = World(Issuer(jwks_url=server.jwks_url), pace, fixed or KeyRing(()))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.keys.run())
        yield world
        running.cancel()


@pytest.fixture
async def server() -> AsyncIterator[IssuerServer]:
    async with issuer_server() as server:
        server.keys = [A.jwk()]
        yield server


# Rotation


async def test_the_first_token_waits_for_the_first_fetch(server: IssuerServer) -> None:
    """Whoever comes before the set is there is judged once it is, without a further fetch."""
    server.keys = [A.jwk(), B.jwk(), C.jwk()]
    async with world_of(server, SELDOM) as world:
        assert [await world.judge(pair.token("ann")) for pair in (A, B, C)] == ["accepted"] * 3
    assert server.fetches() == 1 and world.outcomes == ["ok"]
    assert "accept-encoding: identity" in server.headers[0].lower()


async def test_a_rotation(server: IssuerServer) -> None:
    """A key published since is found by the first token that names it; a withdrawn one is refused from then on, cached or not."""
    async with world_of(server, SELDOM) as world:
        old, other = A.token("ann"), A.token("bob")
        assert await world.judge(old) == "accepted"
        server.keys = [B.jwk()]
        assert await world.judge(old) == "accepted"
        assert await world.judge(B.token("ann")) == "accepted"
        assert [await world.judge(token) for token in (old, other)] == ["key_unknown"] * 2
    assert server.fetches() == 2


async def test_a_withdrawal_is_noticed_in_the_background(server: IssuerServer) -> None:
    """Without any token that names a missing key, the set is fetched now and then; an empty set leaves no key in force."""
    async with world_of(server, Pace(refresh_s=0.1, cooldown_s=3_600)) as world:
        token = A.token("ann")
        assert await world.judge(token) == "accepted"
        server.keys = []

        async def refused() -> bool:
            return await world.judge(token) == "key_unknown"

        await wait_until(refused, PATIENCE_S, "the withdrawn key is refused")
        server.keys = [A.jwk()]
        await wait_until(lambda: len(world.keys.ring.keys) == 1, PATIENCE_S, "the key is back")
        assert await world.judge(token) == "accepted"


async def test_a_set_that_does_not_change_leaves_the_ring_alone(server: IssuerServer) -> None:
    """Fetched again, the same keys are the same ring: what was verified needs no second look."""
    async with world_of(server, Pace(refresh_s=0.05)) as world:
        await world.judge(A.token("ann"))
        ring = world.keys.ring
        await wait_until(lambda: server.fetches() >= 4, PATIENCE_S, "it is fetched again")
        assert world.keys.ring is ring


# Missing keys


async def test_junk_cannot_make_us_hammer_the_issuer(server: IssuerServer) -> None:
    """However many tokens name keys that are not there: one fetch, and the next one only after the cooldown."""
    async with world_of(server, Pace(refresh_s=3_600, cooldown_s=0.5)) as world:
        await world.judge(A.token("ann"))
        junk = [B.sign({"sub": "eve", "exp": 2e9}, kid=f"junk-{n}") for n in range(100)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert {await world.judge(token) for token in junk} == {"key_unknown"}
        assert set(await asyncio.gather(*(world.judge(token) for token in junk))) == {"key_unknown"}
        assert server.fetches() - 1 <= 1 + (loop.time() - began) / 0.5

        async def once_more() -> bool:
            await world.judge(junk[0])
            return server.fetches() >= 3

        await wait_until(once_more, PATIENCE_S, "a fetch after the cooldown")
        assert server.fetches() - 1 <= 1 + (loop.time() - began) / 0.5


async def test_one_fetch_at_a_time(server: IssuerServer) -> None:
    """Tokens that come while a fetch is under way wait for it; all are judged by what it brought."""
    async with world_of(server, Pace(refresh_s=3_600, cooldown_s=0.001)) as world:
        await world.judge(A.token("ann"))
        server.stalled, server.keys = True, [A.jwk(), B.jwk()]
        waiting = [asyncio.create_task(world.judge(B.token(f"user{n}"))) for n in range(50)]
        await wait_until(lambda: server.fetches() == 2, PATIENCE_S, "it is asked")
        late = asyncio.create_task(world.judge(B.token("late")))
        assert await world.judge(A.token("bob")) == "accepted"  # needs nothing that is missing
        server.stalled = False
        assert set(await asyncio.gather(*waiting, late)) == {"accepted"}
    assert server.fetches() == 2


async def test_a_token_without_a_kid(server: IssuerServer) -> None:
    """It is tried on every key of its type; when none fits, the set may have a newer one."""
    async with world_of(server, SELDOM) as world:
        newer = KeyPair(None)
        assert await world.judge(A.sign({"sub": "ann", "exp": 2e9}, kid=None)) == "accepted"
        server.keys = [A.jwk(), newer.jwk()]
        assert await world.judge(newer.token("ann")) == "accepted"
        assert await world.judge(KeyPair(None).token("ann")) == "signature_invalid"


# The issuer away


async def test_never_fetched(server: IssuerServer) -> None:
    """Without any set nothing can be judged but what needs no key, and who comes is told when to come back."""
    await server.stop()
    async with world_of(server, SELDOM) as world:
        denied = await world.verdict(A.token("ann"))
        assert denied is not None and denied.code == "keys_unavailable"
        assert denied.retry_after is not None and 1_000 <= denied.retry_after <= 3_600_000
        assert await world.judge("junk") == "token_malformed"
        assert await world.judge(A.sign({"sub": "ann", "exp": 2e9}).replace(".", "..", 1)) == "token_malformed"
    assert set(world.outcomes) == {"unreachable"}


async def test_the_configured_keys_need_no_issuer(server: IssuerServer) -> None:
    """A key of the configuration is in force whatever the issuer does."""
    await server.stop()
    async with world_of(server, SELDOM, fixed=KeyRing([key_of_jwk(B.jwk())])) as world:
        assert await world.judge(B.token("ann")) == "accepted"
        assert await world.judge(A.token("ann")) == "keys_unavailable"


async def test_stale_and_too_stale(server: IssuerServer) -> None:
    """While the issuer is away the last set serves, up to its limit; when the issuer is back, so are its keys."""
    pace = Pace(refresh_s=0.1, cooldown_s=0.2, stale_s=1.0, retry_s=0.05, longest_retry_s=0.1)
    async with world_of(server, pace) as world:
        token = A.token("ann")
        assert await world.judge(token) == "accepted"
        await server.stop()
        await wait_until(lambda: world.outcomes.count("unreachable") >= 2, PATIENCE_S, "fetches fail")
        assert await world.judge(token) == "accepted"
        assert await world.judge(B.token("ann")) == "keys_unavailable"  # may be of a key that we could not learn of

        async def too_stale() -> bool:
            return await world.judge(token) == "keys_unavailable"

        await wait_until(too_stale, PATIENCE_S, "the set is too old")
        assert world.keys.age_s >= 1.0
        await server.start()

        async def back() -> bool:
            return await world.judge(token) == "accepted"

        await wait_until(back, PATIENCE_S, "the issuer is back")
        assert world.keys.age_s < 1.0


async def test_an_issuer_that_stalls(server: IssuerServer) -> None:
    """A handshake waits for a stalled issuer no longer than it may; what is known goes on."""
    pace = Pace(refresh_s=3_600, cooldown_s=0.01, look_s=0.2)
    async with world_of(server, pace) as world:
        assert await world.judge(A.token("ann")) == "accepted"
        server.stalled = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await world.judge(B.token("ann")) == "keys_unavailable"
        assert loop.time() - began < 0.9  # less than the fetch's own limit
        assert await world.judge(A.token("bob")) == "accepted"
        await wait_until(lambda: world.outcomes[1:] == ["timeout"], PATIENCE_S, "the fetch gives up")
        server.stalled, server.keys = False, [B.jwk()]

        async def found() -> bool:
            return await world.judge(B.token("ann")) == "accepted"

        await wait_until(found, PATIENCE_S, "the new key is found")


# Lies


def says(body: Any, **how: Any) -> Answer:
    return lambda server, path: answer(body, **how)


def redirects(to: str, status: str = "302 Found") -> Answer:
    return lambda server, path: answer("", status=status, Location=to.format(url=server.url))


SET = {"keys": [C.jwk()]}
LIES: list[tuple[str, Answer, str]] = [
    ("HTML with JSON's name", says("<html>sign in</html>"), "malformed"),
    ("HTML", says("<html>sign in</html>", kind="text/html"), "content_type"),
    ("a set said to be HTML", says(SET, kind="text/html; charset=utf-8"), "content_type"),
    ("a set said to be text", says(SET, kind="text/plain"), "content_type"),
    ("a set of no type", says(SET, kind=""), "content_type"),
    ("an error", says({"error": "busy"}, status="503 Service Unavailable"), "status"),
    ("a set with an error's status", says(SET, status="500 Oops"), "status"),
    ("part of a set", says(SET, status="206 Partial Content"), "status"),
    ("nothing", says("", status="204 No Content"), "status"),
    ("an empty body", says(""), "malformed"),
    ("half of it", says(json.dumps(SET)[:-5]), "malformed"),
    ("fewer bytes than announced", says(SET, Content_Length="9999"), "unreachable"),
    ("no set", says({"key": []}), "malformed"),
    ("a list", says([C.jwk()]), "malformed"),
    ("nested without end", says("[" * 100_000), "malformed"),
    ("not UTF-8", says(b'{"keys":[],"x":"\xff"}'), "malformed"),
    ("huge", says({"keys": [C.jwk()], "x": "x" * MOST_BYTES}), "too_large"),
    ("huge by its word only", says(SET, Content_Length=str(10**12)), "unreachable"),
    ("too many keys", says({"keys": [C.jwk()] * 65}), "too_large"),
    ("compressed", says(gzip.compress(json.dumps(SET).encode()), Content_Encoding="gzip"), "malformed"),
    ("a bomb", says(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), "malformed"),
    ("to itself", redirects("{url}/jwks"), "redirect"),
    ("to another name of this machine", redirects("http://localhost:1/jwks"), "redirect"),
    ("to another scheme", redirects("https://127.0.0.1/jwks"), "redirect"),
    ("to a file", redirects("file:///etc/passwd"), "redirect"),
    ("to nowhere", says("", status="302 Found"), "status"),
    ("to what is no URL", redirects("http://[x"), "redirect"),
    ("no HTTP", lambda server, path: b"SSH-2.0-x\r\n\r\n", "unreachable"),
    ("a close", lambda server, path: b"", "unreachable"),
    ("headers without end", lambda server, path: b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000, "unreachable"),
]


@pytest.mark.parametrize(("lie", "outcome"), [case[1:] for case in LIES], ids=[case[0] for case in LIES])
async def test_lies(server: IssuerServer, lie: Answer, outcome: str) -> None:
    """No answer but a good one is taken for a set; each other has its outcome, and nothing else than that comes of it."""
    server.answers["/jwks"] = lie
    with pytest.raises(FetchFailed) as caught:
        await KeyFetcher(Issuer(jwks_url=server.jwks_url), limit_s=1.0).fetch()
    assert caught.value.outcome == outcome
    assert server.url not in str(caught.value)


async def test_an_answer_that_does_not_come(server: IssuerServer) -> None:
    """An issuer that takes the request and says nothing is given up."""
    server.stalled = True
    fetching = asyncio.create_task(KeyFetcher(Issuer(jwks_url=server.jwks_url), limit_s=0.3).fetch())
    await wait_until(lambda: server.requests == ["/jwks"], PATIENCE_S, "it is asked")
    with pytest.raises(FetchFailed) as caught:
        await fetching
    assert caught.value.outcome == "timeout"
    assert server.url not in str(caught.value)


async def test_a_lie_changes_nothing(server: IssuerServer) -> None:
    """After a lie the last good set is in force."""
    pace = Pace(refresh_s=0.05, retry_s=0.05, longest_retry_s=0.05)
    async with world_of(server, pace) as world:
        assert await world.judge(A.token("ann")) == "accepted"
        server.answers["/jwks"] = says(SET, kind="text/html")
        await wait_until(lambda: world.outcomes.count("content_type") >= 2, PATIENCE_S, "lies are told")
        assert await world.judge(A.token("bob")) == "accepted"
        assert await world.judge(C.token("eve")) == "keys_unavailable"


async def test_keys_that_must_not_be_there(server: IssuerServer) -> None:
    """Private and symmetric keys in a set verify nothing; the good one beside them does."""
    secret = "a-published-secret-is-no-secret-any-more"
    server.keys = [{"kty": "oct", "k": secret, "kid": "s"}, C.jwk(private=True), B.jwk(use="enc"), "x", A.jwk()]
    async with world_of(server, SELDOM) as world:
        assert await world.judge(A.token("ann")) == "accepted"
        assert [key.kid for key in world.keys.ring.keys] == ["a"]
        assert await world.judge(C.token("eve")) == "key_unknown"


async def test_a_redirect_at_the_same_place_is_followed(server: IssuerServer) -> None:
    """A moved path is no other place."""
    server.answers["/old"] = redirects("/jwks", "308 Permanent Redirect")
    found = await KeyFetcher(Issuer(jwks_url=f"{server.url}/old")).fetch()
    assert found.keys == (key_of_jwk(A.jwk()),)


async def test_a_redirect_to_elsewhere_is_not(server: IssuerServer) -> None:
    """The other server is not even asked."""
    async with issuer_server() as other:
        other.keys = [C.jwk()]
        server.answers["/jwks"] = redirects(other.jwks_url)
        with pytest.raises(FetchFailed, match="another place"):
            await KeyFetcher(Issuer(jwks_url=server.jwks_url)).fetch()
        assert other.requests == []


async def test_a_password_in_the_url_is_used_and_not_told(server: IssuerServer, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to the issuer, and into no message, `repr` or log."""
    issuer = Issuer(jwks_url=server.jwks_url.replace("//", "//ann:hunter2@") + "?key=hunter2")
    server.answers["/jwks?key=hunter2"] = says({"error": "no"}, status="403 Forbidden")
    with pytest.raises(FetchFailed) as caught:
        await KeyFetcher(issuer).fetch()
    assert "authorization: basic" in server.headers[0].lower()
    said = str(caught.value) + repr(issuer) + "".join(capfd.readouterr())
    assert "hunter2" not in said and "Basic" not in said


async def test_proxies_are_not_for_loopback(server: IssuerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment does not stand between a machine and itself."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert len((await KeyFetcher(Issuer(jwks_url=server.jwks_url)).fetch()).keys) == 1


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nothing://127.0.0.1:9"])
async def test_a_proxy_that_cannot_be_used_is_a_failed_fetch(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """Of a kind that there is no way through: one more fetch that failed, no end of the node; its URL is not told."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(FetchFailed) as caught:
        await KeyFetcher(Issuer(jwks_url="https://issuer.invalid/jwks"), limit_s=1.0).fetch()
    assert caught.value.outcome == "unreachable" and "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "bad"),
    [
        ("https://issuer.example/jwks", False),
        ("http://issuer.example/jwks", True),
        ("http://127.0.0.1:8080/jwks", False),
        ("http://127.9.9.9/jwks", False),
        ("http://[::1]:8080/jwks", False),
        ("http://localhost/jwks", False),
        ("http://localhost.evil.example/jwks", True),
        ("http://127.0.0.1.evil.example/jwks", True),
        ("http://127.0.0.1@evil.example/jwks", True),
        ("http://10.0.0.1/jwks", True),
        ("http://0.0.0.0/jwks", True),
    ],
)
def test_plain_http(url: str, bad: bool) -> None:
    """Keys come over plain HTTP from this machine only."""
    assert insecure(url) is bad


# TLS


def authority(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for 127.0.0.1, and the file with its certificate."""
    pair = KeyPair(None, "ES256")
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tidegate test")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, pair.private.public_key(), 1, now, now + timedelta(hours=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(pair.private, hashes.SHA256())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_text(pair.private_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, str(folder / "cert.pem")


async def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer whose certificate nobody vouches for is as good as away; with its authority named, it is heard."""
    context, certificate = authority(tmp_path)
    async with issuer_server(context) as server:
        server.keys = [A.jwk()]
        with pytest.raises(FetchFailed) as caught:
            await KeyFetcher(Issuer(jwks_url=server.jwks_url)).fetch()
        assert caught.value.outcome == "unreachable"
        assert server.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        assert len((await KeyFetcher(Issuer(jwks_url=server.jwks_url)).fetch()).keys) == 1
        with pytest.raises(FetchFailed):
            await KeyFetcher(Issuer(jwks_url=server.jwks_url.replace("127.0.0.1", "localhost"))).fetch()


# Discovery


async def test_discovery(server: IssuerServer) -> None:
    """The set is where the issuer's document says, with a slash behind the issuer or without."""
    assert (await KeyFetcher(Issuer(issuer=server.url)).fetch()).keys == (key_of_jwk(A.jwk()),)
    assert server.requests == ["/.well-known/openid-configuration", "/jwks"]
    slashed = server.url + "/"
    server.answers["/.well-known/openid-configuration"] = says({"issuer": slashed, "jwks_uri": server.jwks_url})
    assert len((await KeyFetcher(Issuer(issuer=slashed)).fetch()).keys) == 1
    server.requests.clear()
    assert len((await KeyFetcher(Issuer(issuer=server.url, jwks_url=server.jwks_url)).fetch()).keys) == 1
    assert server.requests == ["/jwks"]


DOCUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("of another issuer", {"issuer": "https://evil.example"}, "issuer"),
    ("of an issuer with a slash more", {"issuer": "{url}/"}, "issuer"),
    ("of nobody", {"issuer": None}, "issuer"),
    ("without a set", {"jwks_uri": None}, "malformed"),
    ("a set that is a number", {"jwks_uri": 5}, "malformed"),
    ("a set that is a path", {"jwks_uri": "/jwks"}, "malformed"),
    ("a set in a file", {"jwks_uri": "file:///etc/passwd"}, "malformed"),
    ("a set at no host", {"jwks_uri": "http:///jwks"}, "malformed"),
    ("a set at half an address", {"jwks_uri": "http://[::1/jwks"}, "malformed"),
    ("a set at no port", {"jwks_uri": "http://127.0.0.1:99999/jwks"}, "malformed"),
    ("a set over plain HTTP elsewhere", {"jwks_uri": "http://keys.example/jwks"}, "redirect"),
    ("a set that is not there", {"jwks_uri": "{url}/gone"}, "status"),
]


@pytest.mark.parametrize(("changes", "outcome"), [case[1:] for case in DOCUMENTS], ids=[case[0] for case in DOCUMENTS])
async def test_bad_documents(server: IssuerServer, changes: dict[str, Any], outcome: str) -> None:
    """A discovery document that is not wholly right leads nowhere."""
    document = {"issuer": server.url, "jwks_uri": server.jwks_url} | changes
    text = json.dumps(document).replace("{url}", server.url)
    server.answers["/.well-known/openid-configuration"] = says(text)
    with pytest.raises(FetchFailed) as caught:
        await KeyFetcher(Issuer(issuer=server.url)).fetch()
    assert caught.value.outcome == outcome
    assert server.fetches() == 0

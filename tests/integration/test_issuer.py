"""A node whose keys are an issuer's, or in a PEM file: sockets and HTTP through a rotation, a withdrawal, junk and an outage."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import ConnectRefused, chat_client
from tests.support.commands import tidegate
from tests.support.http import async_http, bearer, failure
from tests.support.issuer import IssuerServer, KeyPair, answer, issuer_server
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token as secret_token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio

PATIENCE_S = 10.0
A, B, C = KeyPair("a"), KeyPair("b", "ES256"), KeyPair("c", "EdDSA")
HISTORY = "/api/rooms/nowhere/messages"  # 404 to whoever has a good token
Metrics = dict[str, float]


@asynccontextmanager
async def node_of(folder: Path, **settings: Any) -> AsyncIterator[NodeProcess]:
    """A node without a secret of its own."""
    cluster = Cluster(folder, {"jwt_secret": ""} | {name: str(value) for name, value in settings.items()}, count=1)
    await asyncio.to_thread(cluster.__enter__)
    try:
        yield cluster[0]
    except BaseException as error:
        cluster.__exit__(type(error), error, None)
        raise
    cluster.__exit__(None, None, None)


@pytest.fixture
async def issuer() -> AsyncIterator[IssuerServer]:
    async with issuer_server() as issuer:
        issuer.keys = [A.jwk()]
        yield issuer


async def judged_over_http(node: NodeProcess, token: str) -> str:
    """How a request with the token is taken: the code, or accepted."""
    async with async_http(base_url=node.url) as http:
        code: str = (await http.get(HISTORY, headers=bearer(token))).json()["error"]["code"]
    return "accepted" if code == "room_not_found" else code


async def judged(node: NodeProcess, token: str) -> str:
    """How both ways in take a token: they agree, where the keys do not change meanwhile."""
    try:
        async with chat_client(node.url, token):
            over_socket = "accepted"
    except ConnectRefused as refused:
        over_socket = refused.code
    assert await judged_over_http(node, token) == over_socket
    return over_socket


async def metrics(node: NodeProcess) -> Metrics:
    """All samples of the node, by name and labels as they are written."""
    async with async_http() as http:
        text = (await http.get(f"{node.url}/metrics")).text
    return {name: float(value) for name, value in re.findall(r"^([^#\s].*?) (\S+)$", text, re.MULTILINE)}


async def test_a_rotation_and_a_withdrawal(issuer: IssuerServer, tmp_path: Path) -> None:
    """The new key's first token is accepted at once; the withdrawn key's are refused once the set is fetched again."""
    async with node_of(tmp_path, jwks_url=issuer.jwks_url, jwks_refresh_seconds=1) as node:
        old = A.token("ann")
        assert await judged(node, old) == "accepted"
        issuer.keys = [A.jwk(), B.jwk()]
        assert [await judged(node, token) for token in (B.token("ann"), old)] == ["accepted"] * 2
        async with chat_client(node.url, old) as client:
            issuer.keys = [B.jwk()]

            async def refused() -> bool:
                return await judged_over_http(node, old) == "key_unknown"

            await wait_until(refused, PATIENCE_S, "the withdrawn key is refused")
            assert await judged(node, old) == "key_unknown"
            answered = await client.ask("auth:refresh", {"token": A.token("ann")})
            assert answered["error"]["code"] == "key_unknown"
            assert (await client.ask("auth:refresh", {"token": B.token("ann")}))["ok"]
        seen = await metrics(node)
        assert seen['tidegate_jwks_fetches_total{outcome="ok"}'] >= 3
        assert 0 <= seen["tidegate_jwks_age_seconds"] < PATIENCE_S
        for alg in ("RS256", "ES256"):
            assert seen[f'tidegate_token_verify_seconds_count{{alg="{alg}",cache="miss"}}'] >= 1
            assert seen[f'tidegate_token_verify_seconds_count{{alg="{alg}",cache="hit"}}'] >= 1


async def test_junk_is_not_passed_on_to_the_issuer(issuer: IssuerServer, tmp_path: Path) -> None:
    """Handshakes and requests that name keys nobody has cause at most one fetch in a cooldown."""
    cooldown_s = 2
    async with node_of(tmp_path, jwks_url=issuer.jwks_url, jwks_cooldown_seconds=cooldown_s) as node:
        assert await judged(node, A.token("ann")) == "accepted"
        assert issuer.fetches() == 1
        began = time.monotonic()
        async with async_http(base_url=node.url) as http:
            for n in range(100):
                junk = C.sign({"sub": f"eve{n}", "exp": 2e9}, kid=f"junk-{n}")
                failure(await http.get(HISTORY, headers=bearer(junk)), 401, "key_unknown")
        assert await asyncio.gather(*(judged(node, C.token(f"mallory{n}")) for n in range(10))) == ["key_unknown"] * 10
        assert 2 <= issuer.fetches() <= 2 + (time.monotonic() - began) / cooldown_s


async def test_a_handshake_waits_while_its_key_is_fetched(issuer: IssuerServer, tmp_path: Path) -> None:
    """Newcomers with a new key wait for one fetch together; who has a known key, and who hangs up meanwhile, troubles nobody."""
    async with node_of(tmp_path, jwks_url=issuer.jwks_url) as node:
        assert await judged(node, A.token("ann")) == "accepted"
        issuer.stalled, issuer.keys = True, [A.jwk(), B.jwk()]
        waiting = [asyncio.create_task(judged(node, B.token(f"user{n}"))) for n in range(10)]
        await wait_until(lambda: issuer.fetches() == 2, PATIENCE_S, "the issuer is asked")
        waiting.pop().cancel()
        assert await judged(node, A.token("bob")) == "accepted"
        issuer.stalled = False
        assert set(await asyncio.gather(*waiting)) == {"accepted"}
        assert issuer.fetches() == 2


async def test_an_issuer_that_is_away(issuer: IssuerServer, tmp_path: Path) -> None:
    """Until the first set is there, `keys_unavailable` with the time to wait; then by what was fetched, until that is too old."""
    await issuer.stop()
    async with node_of(tmp_path, jwks_url=issuer.jwks_url, jwks_refresh_seconds=1, jwks_stale_seconds=2) as node:
        token = A.token("ann")
        with pytest.raises(ConnectRefused) as caught:
            async with chat_client(node.url, token):
                pass
        assert caught.value.code == "keys_unavailable" and caught.value.data["data"]["retry_after"] >= 1_000
        async with async_http(base_url=node.url) as http:
            failure(await http.get(HISTORY, headers=bearer(token)), 503, "keys_unavailable")
        await issuer.start()

        async def is_judged(code: str) -> bool:
            return await judged_over_http(node, token) == code

        await wait_until(lambda: is_judged("accepted"), PATIENCE_S, "the first set is there")
        await issuer.stop()
        await wait_until(lambda: is_judged("keys_unavailable"), PATIENCE_S, "the set is too old")
        assert await judged(node, token) == "keys_unavailable"
        seen = await metrics(node)
        assert seen['tidegate_jwks_fetches_total{outcome="unreachable"}'] >= 2
        assert seen["tidegate_jwks_age_seconds"] >= 2
        assert '"outcome": "unreachable"' in node.stderr() or '"outcome":"unreachable"' in node.stderr()
        await issuer.start()
        await wait_until(lambda: is_judged("accepted"), PATIENCE_S, "the issuer is back")


async def test_discovery(issuer: IssuerServer, tmp_path: Path) -> None:
    """By the issuer's name alone: its set is found, and its tokens must say that they are its own."""
    async with node_of(tmp_path, oidc_issuer=issuer.url) as node:
        assert await judged(node, A.token("ann", iss=issuer.url)) == "accepted"
        assert await judged(node, A.token("ann", iss="https://evil.example")) == "issuer_invalid"
        assert await judged(node, A.token("ann")) == "issuer_invalid"


async def test_a_pem_file(tmp_path: Path) -> None:
    """The keys of a file, of several types, beside a secret; the text of none is a secret."""
    file = tmp_path / "keys.pem"
    file.write_text(A.pem + B.pem + C.pem)
    settings = {"jwt_public_key_file": file, "jwt_algorithms": "HS256,RS256,ES256,EdDSA"}
    secret = "a-secret-of-the-tests-that-is-long-enough-for-hmac"
    async with node_of(tmp_path, **settings, jwt_secret=secret) as node:
        good = [pair.token("ann") for pair in (A, B, C)] + [secret_token("ann", secret=secret)]
        assert [await judged(node, token) for token in good] == ["accepted"] * 4
        assert await judged(node, KeyPair("a").token("ann")) == "signature_invalid"
        assert "tidegate_jwks_age_seconds" not in await metrics(node)


BAD: list[tuple[str, dict[str, str], str]] = [
    ("a private key", {"jwt_public_key_file": A.private_pem}, "TIDEGATE_JWT_PUBLIC_KEY_FILE: takes"),
    ("a small key", {"jwt_public_key_file": KeyPair(None, bits=1_024).pem}, "TIDEGATE_JWT_PUBLIC_KEY_FILE: takes"),
    ("plain HTTP", {"jwks_url": "http://keys.example/hunter2"}, "TIDEGATE_JWKS_URL: takes an https:// URL"),
    (
        "a set that is stale before it is fetched again",
        {"jwks_url": "https://keys", "jwks_stale_seconds": "599"},
        "TIDEGATE_JWKS_STALE_SECONDS",
    ),
    ("plain HTTP of an issuer", {"oidc_issuer": "http://ann:hunter2@id.example"}, "TIDEGATE_OIDC_ISSUER: takes an https:// URL"),
]


@pytest.mark.parametrize(("settings", "line"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_keys_are_told_at_the_start(settings: dict[str, str], line: str, tmp_path: Path) -> None:
    """A node with keys that it cannot trust says so in one line, without any part of a secret, and does not start."""
    for name, value in settings.items():
        if name.endswith("_file"):
            (tmp_path / "keys.pem").write_text(value)
            settings = settings | {name: str(tmp_path / "keys.pem")}
    done = tidegate("node", "--port", "0", folder=tmp_path, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line) and len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr and "BEGIN" not in done.stderr


async def doctor(folder: Path, **settings: str) -> tuple[int, str]:
    done = await asyncio.to_thread(tidegate, "doctor", "--port", "0", folder=folder, **settings)
    return done.returncode, done.stdout


async def test_the_doctor_asks_the_issuer(issuer: IssuerServer, tmp_path: Path) -> None:
    """It says which keys the set has and which are left out; what cannot be fetched, or is of no use, fails."""
    issuer.keys = [A.jwk(), C.jwk(private=True)]
    code, told = await doctor(tmp_path, jwks_url=issuer.jwks_url)
    assert code == 0 and "keys: 1 (a)" in told and "left out: a private key" in told
    code, told = await doctor(tmp_path, jwks_url=issuer.jwks_url, jwt_algorithms="ES256")
    assert code == 1 and "1 of the key set can verify none of TIDEGATE_JWT_ALGORITHMS (ES256)" in told
    issuer.keys = []
    code, told = await doctor(tmp_path, jwks_url=issuer.jwks_url)
    assert code == 1 and "has no key that can be used" in told
    issuer.answers["/jwks"] = lambda server, path: answer("<html>", kind="text/html")
    code, told = await doctor(tmp_path, oidc_issuer=issuer.url)
    assert code == 1 and "does not say that it is JSON" in told and issuer.url not in told


async def test_the_doctor_counts_the_keys_of_a_file(tmp_path: Path) -> None:
    """A key that the allow-list leaves without a use fails."""
    file = tmp_path / "keys.pem"
    file.write_text(A.pem + B.pem)
    code, told = await doctor(tmp_path, jwt_public_key_file=str(file))
    assert code == 0 and f"2 in {file}" in told
    file.write_text(A.pem + KeyPair(None, "ES384").pem)
    code, told = await doctor(tmp_path, jwt_public_key_file=str(file))
    assert code == 1 and "1 of the PEM file can verify none" in told

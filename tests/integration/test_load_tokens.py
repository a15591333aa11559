"""Tokens that the load test fetches from an issuer's URL: as the issuer gives them, or none."""

import asyncio
import random
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from loadtest import tokens
from loadtest.client import Client
from loadtest.journal import Journal, Names
from loadtest.route import Route
from loadtest.storm import Pulse
from loadtest.tokens import Token, TokenUnavailable
from tests.integration.test_load_client import Script, Watched, served
from tests.support.http import bearer, fetch
from tests.support.issuer import IssuerServer, KeyPair, answer, issuer_server
from tests.support.nodes import Cluster

pytestmark = pytest.mark.anyio
LIMIT_S = 20.0


@pytest.fixture
async def issuer() -> AsyncIterator[IssuerServer]:
    """On loopback, with whatever a test has it answer at `/token`."""
    async with issuer_server() as server:
        yield server


def unsigned(claims: str) -> str:
    """A token of these claims; nobody looks at its signature."""
    return f"e30.{urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.e30"


async def test_a_token_is_taken_with_what_it_says_of_its_times(issuer: IssuerServer) -> None:
    """In whole ms, rounded down; an issuer that does not say when it was issued is none the worse."""
    exp, iat = time.time() + 60.0004, time.time()
    for claims, issued_at in (({"exp": exp, "iat": iat}, int(iat * 1000)), ({"exp": exp}, None)):
        text = KeyPair("k", "EdDSA").sign({"sub": "ann"} | claims)
        issuer.answers["/token"] = lambda server, path, text=text: answer({"token": text, "expires_at": 1})  # type: ignore[misc]
        token = await asyncio.to_thread(tokens.fetched(f"{issuer.url}/token"), "ann", 60.0)
        assert token == tokens.Token(text, int(exp * 1000), issued_at)


async def test_what_is_asked_for_is_what_a_node_issues(tmp_path: Path) -> None:
    """For this user, for so long, and with the scope that an operator needs."""
    with Cluster(tmp_path, {"dev_issuer": "1"}, count=1) as cluster:
        mint = tokens.fetched(f"{cluster[0].url}/dev/token")
        plain = await asyncio.to_thread(mint, "ann", 30.0)
        admin = await asyncio.to_thread(lambda: mint("ops", 30.0, scope="admin"))
        status = {
            token: fetch(f"{cluster[0].url}/api/cluster", headers=bearer(token)).status_code for token in (plain.text, admin.text)
        }
    assert abs(plain.ends_at / 1000 - time.time() - 30) < 20
    assert status == {plain.text: 403, admin.text: 200}


async def _cut(server: IssuerServer, path: str) -> bytes:
    return answer({"token": unsigned('{"exp": 4e9}')})[:-10]


def _says(body: object, **rest: str) -> Callable[[IssuerServer, str], Awaitable[bytes] | bytes]:
    return lambda server, path: answer(body, **rest)


JUNK = {
    "a failure": _says("broken", status="500 Internal Server Error"),
    "no such path": _says("not here", status="404 Not Found"),
    "a page": _says("<!doctype html>", kind="text/html"),
    "no text": _says(b"\xff\xfe"),
    "nothing": _says(b""),
    "another object": _says({"access_token": "x"}),
    "a number": _says({"token": 1}),
    "no token": _says({"token": "x"}),
    "no base64": _says({"token": "e30.\u00e4.e30"}),
    "no claims": _says({"token": unsigned("junk")}),
    "no end": _says({"token": unsigned('{"iat": 1}')}),
    "no number for its end": _says({"token": unsigned('{"exp": "tomorrow"}')}),
    "an end that no clock shows": _says({"token": unsigned('{"exp": 1e300}')}),
    "an end past all numbers": _says({"token": unsigned('{"exp": 1e308}')}),
    "half an answer": _cut,
    "no HTTP": lambda server, path: b"junk\r\n\r\n",
    "no word": lambda server, path: b"",
}


async def test_an_issuer_that_is_away_or_answers_junk_has_no_token(issuer: IssuerServer) -> None:
    """`TokenUnavailable`, which a client counts as such and goes on after; nothing else is raised, whatever comes."""
    found = {}
    mint = tokens.fetched(f"{issuer.url}/token")

    async def raised() -> str:
        try:
            await asyncio.to_thread(mint, "ann", 60.0)
        except TokenUnavailable:
            return "unavailable"
        except Exception as error:  # noqa: BLE001 - it is what is asked
            return repr(error)
        return "a token"

    for name, junk in JUNK.items():
        issuer.answers["/token"] = junk
        found[name] = await raised()
    await issuer.stop()
    found["away"] = await raised()
    assert {name: what for name, what in found.items() if what != "unavailable"} == {}


class Noted(Watched):
    """An observer that keeps what was refused, and what was renewed."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def refused(self, what: str, code: str) -> None:
        self.told.append(f"{what} {code}")

    def renewed(self, took_s: float) -> None:
        self.told.append("renewed")


async def test_who_gets_no_token_to_renew_with_asks_again(issuer: IssuerServer) -> None:
    """The session stays open meanwhile, each try counts by its code, and the first token that can be had renews it."""
    noted, renewed, ends_at = Noted(), threading.Event(), time.time() + 30
    good = unsigned(f'{{"exp": {ends_at + 60}}}')
    answers = [answer("broken", status="503 Service Unavailable"), answer("junk"), answer({"token": good})]
    issuer.answers["/token"] = lambda server, path: answers.pop(0)
    mint = tokens.fetched(f"{issuer.url}/token")

    def script(one: Script) -> None:
        one.answer(one.asked_to_renew(), {"ok": True, "expires_at": int((ends_at + 60) * 1000)})
        assert renewed.wait(LIMIT_S)

    def live() -> tuple[list[str], int]:
        draw, pulse = random.Random(1).random, Pulse()
        with served(script, ends_at, noted) as url:
            client = Client(
                user="u",
                tokens=lambda renewal: mint("u", 60.0) if renewal else Token("first", int(ends_at * 1000)),
                route=Route([url], draw),
                journal=Journal("u", Names()),
                observer=noted,
                pulse=pulse,
                renews=True,
                draw=draw,
            )
            limit = time.monotonic() + LIMIT_S
            while "renewed" not in noted.told and time.monotonic() < limit:
                client.serve(time.monotonic() + 0.05)
            found = list(noted.told), client.ends_at
            renewed.set()
            client.close()
            pulse.stop()
        return found

    told, ended = await asyncio.to_thread(live)
    assert told == ["renew token_unavailable", "renew token_unavailable", "renewed"]
    assert ended == int((ends_at + 60) * 1000)

"""Where in a handshake a token is looked for, and what happens when there is none, or two."""

from typing import Any

import pytest

from node.auth.denied import Denied
from node.auth.sources import find_token

BOTH = ("auth", "header")


def header(value: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": value, "QUERY_STRING": "token=in.the.query"}


FOUND: list[tuple[str, Any, dict[str, str], tuple[str, ...], tuple[str, str]]] = [
    ("in auth", {"token": "a.b.c"}, {}, BOTH, ("a.b.c", "auth")),
    ("in the header", None, header("Bearer a.b.c"), BOTH, ("a.b.c", "header")),
    ("scheme in capitals", {}, header("BEARER a.b.c"), BOTH, ("a.b.c", "header")),
    ("more blanks", {}, header("  bearer   a.b.c  "), BOTH, ("a.b.c", "header")),
    ("empty in auth", {"token": ""}, header("Bearer a.b.c"), BOTH, ("a.b.c", "header")),
    ("null in auth", {"token": None}, header("Bearer a.b.c"), BOTH, ("a.b.c", "header")),
    ("the same twice", {"token": "a.b.c"}, header("Bearer a.b.c"), BOTH, ("a.b.c", "auth")),
    ("the preferred first", {"token": "a.b.c"}, header("Bearer a.b.c"), ("header", "auth"), ("a.b.c", "header")),
    ("another scheme beside it", {"token": "a.b.c"}, header("Basic YTpi"), BOTH, ("a.b.c", "auth")),
    ("a source that is off disagrees", {"token": "a.b.c"}, header("Bearer x.y.z"), ("auth",), ("a.b.c", "auth")),
    ("two words are one token, for the judge to refuse", None, header("Bearer a b"), BOTH, ("a b", "header")),
]

DENIED: list[tuple[str, Any, dict[str, str], tuple[str, ...], str]] = [
    ("nothing", None, {}, BOTH, "token_missing"),
    ("an empty payload", {}, {}, BOTH, "token_missing"),
    ("a payload that is no object", "a.b.c", {}, BOTH, "token_missing"),
    ("a list", ["a.b.c"], {}, BOTH, "token_missing"),
    ("another field", {"Token": "a.b.c"}, {}, BOTH, "token_missing"),
    ("another scheme", None, header("Basic YTpi"), BOTH, "token_missing"),
    ("no scheme", None, header("a.b.c"), BOTH, "token_missing"),
    ("an empty header", None, header(""), BOTH, "token_missing"),
    ("only where it is off", {"token": "a.b.c"}, {}, ("header",), "token_missing"),
    ("a scheme alone", None, header("Bearer"), BOTH, "token_malformed"),
    ("a scheme and blanks", None, header("Bearer   "), BOTH, "token_malformed"),
    ("a number", {"token": 7}, {}, BOTH, "token_malformed"),
    ("false", {"token": False}, {}, BOTH, "token_malformed"),
    ("an object", {"token": {"$ne": ""}}, header("Bearer a.b.c"), BOTH, "token_malformed"),
    ("two that differ", {"token": "a.b.c"}, header("Bearer x.y.z"), BOTH, "credentials_conflict"),
    ("two that differ in case", {"token": "a.b.c"}, header("Bearer A.b.c"), BOTH, "credentials_conflict"),
]


@pytest.mark.parametrize(
    ("auth", "headers", "sources", "expected"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND]
)
def test_found(auth: Any, headers: dict[str, str], sources: tuple[str, ...], expected: tuple[str, str]) -> None:
    """The first source that has one gives the token and its own name."""
    assert find_token(auth, headers, sources) == expected


@pytest.mark.parametrize(("auth", "headers", "sources", "code"), [case[1:] for case in DENIED], ids=[case[0] for case in DENIED])
def test_denied(auth: Any, headers: dict[str, str], sources: tuple[str, ...], code: str) -> None:
    """None, one of the wrong shape, or two that disagree: a code, and no part of a token in the message."""
    verdict = find_token(auth, headers, sources)
    assert isinstance(verdict, Denied)
    assert verdict.code == code
    assert not any(part in verdict.message for part in ("a.b.c", "x.y.z", "YTpi"))

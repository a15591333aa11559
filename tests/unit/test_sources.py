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


ALL = ("auth", "header", "query", "cookie:session")


def request(**fields: str) -> dict[str, str]:
    return {name.upper(): value for name, value in fields.items()}


ELSEWHERE: list[tuple[str, dict[str, str], bool, tuple[str, str] | str]] = [
    ("in the query", request(query_string="EIO=4&token=a.b.c"), False, ("a.b.c", "query")),
    ("escaped in the query", request(query_string="token=a%2Eb.c"), False, ("a.b.c", "query")),
    ("the same twice in the query", request(query_string="token=a.b.c&token=a.b.c"), False, ("a.b.c", "query")),
    ("two in the query", request(query_string="token=a.b.c&token=x.y.z"), False, "credentials_conflict"),
    ("an empty one in the query", request(query_string="token="), False, "token_missing"),
    ("another parameter", request(query_string="access_token=a.b.c"), False, "token_missing"),
    ("in the cookie", request(http_cookie="a=1; session=a.b.c; b=2"), True, ("a.b.c", "cookie:session")),
    ("in quotes", request(http_cookie='session="a.b.c"'), True, ("a.b.c", "cookie:session")),
    ("in the cookie of another's request", request(http_cookie="session=a.b.c"), False, "token_missing"),
    ("another cookie", request(http_cookie="xsession=a.b.c; session2=a.b.c"), True, "token_missing"),
    ("an empty cookie", request(http_cookie="session="), True, "token_missing"),
    ("the cookie twice", request(http_cookie="session=a.b.c; session=x.y.z"), True, "credentials_conflict"),
    ("query and cookie disagree", request(query_string="token=a.b.c", http_cookie="session=x.y.z"), True, "credentials_conflict"),
    ("query and cookie agree", request(query_string="token=a.b.c", http_cookie="session=a.b.c"), True, ("a.b.c", "query")),
    (
        "another's cookie does not count",
        request(query_string="token=a.b.c", http_cookie="session=x.y.z"),
        False,
        ("a.b.c", "query"),
    ),
    ("junk in the cookies", request(http_cookie=";;=;session;=a.b.c; \x00"), True, "token_missing"),
    ("junk in the query", request(query_string="%&%zz&=token"), True, "token_missing"),
]


@pytest.mark.parametrize(
    ("environ", "cookies", "expected"), [case[1:] for case in ELSEWHERE], ids=[case[0] for case in ELSEWHERE]
)
def test_query_and_cookie(environ: dict[str, str], cookies: bool, expected: tuple[str, str] | str) -> None:
    """In the query and in a cookie, where they are on; a cookie counts only in a request of one's own pages."""
    verdict = find_token(None, environ, ALL, cookies=cookies)
    assert (verdict.code if isinstance(verdict, Denied) else verdict) == expected
    assert find_token(None, environ, BOTH, cookies=cookies) == Denied(
        "token_missing", "no token in auth.token or the Authorization header"
    )

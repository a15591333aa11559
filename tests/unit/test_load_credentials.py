"""What a user of the load test signs in with: over withdrawals, resumes, and an issuer that has nothing."""

import time
from typing import Any

import pytest

from loadtest.credentials import Credentials
from loadtest.tokens import Token, TokenUnavailable

ENDS_AT = int((time.time() + 3_600) * 1000)


def numbered(*, resumes: bool = True) -> Credentials:
    """Whose tokens are t1, t2, …, each issued 1 s behind the one before."""
    issued = list[Token]()

    def tokens(renewal: bool) -> Token:
        issued.append(Token(f"t{len(issued) + 1}", ENDS_AT, issued_at=1_000 * (len(issued) + 1)))
        return issued[-1]

    return Credentials(tokens, renews=True, resumes=resumes)


def brought(credentials: Credentials) -> str:
    return str(credentials.auth({})["token"])


def test_who_is_put_out_brings_the_withdrawn_token_once_more() -> None:
    """It has to be refused then, too, which was to happen both times; behind a fresh one neither is expected any more."""
    credentials = numbered()
    assert brought(credentials) == "t1"
    assert credentials.being_withdrawn() == 1_001  # nothing that is issued later
    assert credentials.ends_at == ENDS_AT  # nobody has answered yet
    credentials.withdrawn()
    assert credentials.ends_at < ENDS_AT
    assert credentials.ended("token_revoked", session=True)
    assert brought(credentials) == "t1"
    assert credentials.ended("token_revoked", session=False)
    assert (brought(credentials), credentials.ends_at, credentials.withdrawing_since) == ("t2", ENDS_AT, None)
    assert not credentials.ended("token_revoked", session=True)
    assert brought(credentials) == "t3"


def test_a_fresh_token_while_nobody_has_answered_leaves_the_withdrawal_under_way() -> None:
    """What is withdrawn is the token of before: the fresh one's right does not end with it."""
    credentials = numbered()
    brought(credentials)
    credentials.being_withdrawn()
    assert brought(credentials) == "t2"
    credentials.withdrawn()
    assert credentials.withdrawing_since is not None and credentials.ends_at == ENDS_AT


@pytest.mark.parametrize("resumes", [True, False])
def test_only_who_resumes_comes_back_with_what_the_last_session_gave(resumes: bool) -> None:
    """Its ticket for the transport; for CONNECT its session, with how far each room was seen. A stock client has neither."""
    credentials = numbered(resumes=resumes)
    assert (credentials.query, credentials.auth({"r": 1})) == ({}, {"token": "t1"})
    credentials.welcomed("s", "ticket")
    resume: dict[str, Any] = {"resume": {"session": "s", "cursors": {"r": 2}}} if resumes else {}
    assert credentials.query == ({"ticket": "ticket"} if resumes else {})
    assert credentials.auth({"r": 2}) == {"token": "t2"} | resume


def test_a_token_that_cannot_be_had_changes_nothing() -> None:
    """The last one stays the last, and the withdrawal under way."""

    def none(renewal: bool) -> Token:
        raise TokenUnavailable

    credentials = Credentials(none, renews=True, resumes=True)
    credentials.token = last = Token("t", ENDS_AT)
    credentials.being_withdrawn()
    credentials.withdrawn()
    with pytest.raises(TokenUnavailable):
        credentials.auth({})
    assert credentials.token is last and credentials.withdrawing_since is not None

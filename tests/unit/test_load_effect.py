"""A storm whose fault did nothing has shown nothing."""

import msgspec
import pytest

from loadtest.effect import unspoken, without_effect
from loadtest.measures import Measures
from loadtest.scenarios import SCENARIOS

STRIKE_S = 20.0


def quiet() -> Measures:
    """A day on which one token ended, one person went and came, and one connection was lost long before the strike."""
    measured = Measures(returns=[(21.0, 21.1, "token_expired"), (22.0, 23.0, "client"), (3.0, 3.5, "lost")])
    measured.count("refused", 3.2)
    measured.time("send to ack", 0.01)
    return measured


def lost(code: str) -> Measures:
    measured = quiet()
    measured.returns.append((20.4, 21.0, code))
    return measured


def timed(name: str, took_s: float) -> Measures:
    measured = quiet()
    measured.time(name, took_s)
    return measured


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("node-loss", "nobody lost a connection: the fault did nothing"),
        ("rolling", "nobody lost a connection: the fault did nothing"),
        ("revocation", "nobody was told of a withdrawal: nothing was withdrawn"),
        ("steady", None),
        ("broker-restart", None),  # sockets stay open
        ("cliff", None),  # who renews notices nothing
        ("morning", None),
    ],
)
def test_a_fault_that_nobody_noticed_did_nothing(scenario: str, said: str | None) -> None:
    """What happens on any day is none of its doing."""
    assert without_effect(msgspec.structs.replace(SCENARIOS[scenario], strike_s=STRIKE_S), quiet()) == said


@pytest.mark.parametrize(
    ("scenario", "measured"),
    [
        ("node-loss", lost("lost")),
        ("rolling", lost("draining")),
        ("revocation", timed("revocation", 0.02)),
    ],
)
def test_a_fault_that_somebody_noticed_did_something(scenario: str, measured: Measures) -> None:
    """One of them is enough."""
    assert without_effect(msgspec.structs.replace(SCENARIOS[scenario], strike_s=STRIKE_S), measured) is None


def test_messages_that_were_refused_for_good_are_told() -> None:
    """By their codes, with how many; other refusals are none of them."""
    measured = quiet()
    for what, code in (
        ("message:send", "too_large"),
        ("message:send", "not_a_member"),
        ("message:send", "not_a_member"),
        ("connect", "server_busy"),
        ("renew", "refresh_invalid"),
    ):
        measured.refuse(what, code)
    assert unspoken(measured) == [
        "message:send refused for good: not_a_member, 2 times",
        "message:send refused for good: too_large, 1 times",
    ]
    assert unspoken(quiet()) == []

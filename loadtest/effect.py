"""Whether what a storm was to do to a cluster was done to anybody: a fault that nobody noticed shows nothing. Pure."""

from loadtest import measures
from loadtest.measures import EXPIRED, Measures
from loadtest.scenarios import Scenario

_CLOCKS_S = 1.0  # before the strike a loss counts to it: clocks differ a little
_OWN = frozenset({EXPIRED, "client"})  # codes of losses that no fault makes: the end of a token, and people who go


def without_effect(scenario: Scenario, measured: Measures) -> str | None:
    """What there is to say of a fault or a withdrawal that did nothing; None where it did something, or there was to be none.

    A broker's restart need not be noticed by anybody: sockets stay open, and an ack may only be late.
    """
    match scenario.strike:
        case "kill" | "drain" if not _lost(scenario, measured):
            return "nobody lost a connection: the fault did nothing"
        case "revocation" if measures.REVOCATION not in measured.times:
            return "nobody was told of a withdrawal: nothing was withdrawn"
        case _:
            return None


def _lost(scenario: Scenario, measured: Measures) -> bool:
    """Whoever lost one and was never back is told of as not back."""
    begins_s = scenario.strike_s - _CLOCKS_S
    return any(lost_s >= begins_s and code not in _OWN for lost_s, _, code in measured.returns)

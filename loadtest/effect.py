"""Whether what a storm was to do to a cluster was done to anybody: a fault that nobody noticed shows nothing. Pure."""

import math

from loadtest import measures
from loadtest.measures import EXPIRED, Measures
from loadtest.scenarios import Scenario

_CLOCKS_S = 1.0  # before the strike a loss counts to it: clocks differ a little
_LATE_S = 0.25  # an ack that took no longer has waited for no broker
_OWN = frozenset({EXPIRED, "client"})  # codes of losses that no fault makes: the end of a token, and people who go


def without_effect(scenario: Scenario, measured: Measures) -> str | None:
    """What there is to say of a fault or a withdrawal that did nothing; None where it did something, or there was to be none."""
    match scenario.strike:
        case "kill" | "drain" if not _lost(scenario, measured):
            return "nobody lost a connection: the fault did nothing"
        case "broker" if not (_lost(scenario, measured) or _refused(scenario, measured) or _late(measured)):
            return "nobody lost a connection, and nothing was refused or late: the fault did nothing"
        case "revocation" if measures.REVOCATION not in measured.times:
            return "nobody was told of a withdrawal: nothing was withdrawn"
        case _:
            return None


def _lost(scenario: Scenario, measured: Measures) -> bool:
    """Whoever lost one and was never back is told of as not back."""
    begins_s = scenario.strike_s - _CLOCKS_S
    return any(lost_s >= begins_s and code not in _OWN for lost_s, _, code in measured.returns)


def _refused(scenario: Scenario, measured: Measures) -> bool:
    begins = math.floor(scenario.strike_s)
    return any(count and second >= begins for second, count in measured.series.get(measures.REFUSED, {}).items())


def _late(measured: Measures) -> bool:
    acks = measured.times.get(measures.ACK)
    return acks is not None and acks.most > _LATE_S

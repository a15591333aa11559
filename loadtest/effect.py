"""Whether a storm did to a cluster what it was to do: a fault that nobody noticed shows nothing, nor does talk that is refused. Pure."""

from loadtest import measures
from loadtest.measures import EXPIRED, Measures
from loadtest.scenarios import Scenario

_CLOCKS_S = 1.0  # before the strike a loss counts to it: clocks differ a little
_SAYING = "message:send"
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


def unspoken(measured: Measures) -> list[str]:
    """What there is to say of messages that were refused for good, for each code with how many: the cluster was spared that load.

    Not of stock clients, who send nothing a second time: with them a refusal for the moment is one for good.
    """
    return [
        f"{what} refused for good: {code}, {count} times"
        for what, _, code, count in ((*name.partition(" "), count) for name, count in sorted(measured.refusals.items()))
        if what == _SAYING
    ]


def _lost(scenario: Scenario, measured: Measures) -> bool:
    """Whoever lost one and was never back is told of as not back."""
    begins_s = scenario.strike_s - _CLOCKS_S
    return any(lost_s >= begins_s and code not in _OWN for lost_s, _, code in measured.returns)

"""The shape of a storm in time: when people come, who is away when, when a token ends, what is marked. Pure.

Moments are seconds since the start of the storm, the same for all its processes.
"""

from collections.abc import Callable

import msgspec

from loadtest.scenarios import TALKER, Scenario

WAKE_WITHIN_S = 1.0  # in which everyone wakes
NIGHT_BEGINS = 0.4  # of the time from the last arrival to the waking
STALE_S = 1.0  # before the waking, at the latest, a sleeper's token has ended
SHORTEST_LIFE_S = 1.0  # of a token


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when somebody has no connection. `stale`: they come back with the token that they had."""

    begins_s: float
    ends_s: float
    stale: bool = False


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Of one scenario."""

    scenario: Scenario

    @property
    def night_s(self) -> float:
        """When sleepers go."""
        scenario = self.scenario
        return scenario.arrive_s + (scenario.strike_s - scenario.arrive_s) * NIGHT_BEGINS

    def absence(self, kind: str, draw: Callable[[], float]) -> Absence | None:
        """When somebody of this kind is away on purpose; `draw` gives numbers in [0, 1)."""
        if self.scenario.strike != "waking":
            return None
        stays, wakes = draw() < self._staying(kind), draw() * WAKE_WITHIN_S
        return None if stays else Absence(begins_s=self.night_s, ends_s=self.scenario.strike_s + wakes, stale=True)

    def _staying(self, kind: str) -> float:
        """The share of this kind that does not sleep. Talkers come first: somebody has to talk at night, or nothing would be missed."""
        talkers = self.scenario.people.get(TALKER, 0) / sum(self.scenario.people.values())
        up = 1 - self.scenario.share
        if kind == TALKER:
            return min(1.0, up / talkers)
        return max(0.0, up - talkers) / (1 - talkers)

    def life_s(self, now_s: float, *, renewal: bool, absence: Absence | None = None) -> float:
        """How long a token lives that is fetched now."""
        if absence is not None and absence.stale and now_s < absence.begins_s:
            return max(SHORTEST_LIFE_S, self.scenario.strike_s - STALE_S - now_s)
        if self.scenario.strike == "cliff" and not renewal and now_s < self.scenario.strike_s - SHORTEST_LIFE_S:
            return self.scenario.strike_s - now_s
        return self.scenario.ttl_s

    def problems(self) -> list[str]:
        """What of its times does not fit together, each with the flag that says otherwise."""
        scenario, found = self.scenario, list[str]()
        if scenario.strike == "nothing":
            return found
        if scenario.arrive_s + 1 > scenario.strike_s:
            found.append(
                f"--cliff-at: takes 1 s or more behind the last arrival ({scenario.arrive_s:g} s), got {scenario.strike_s:g}"
            )
        if scenario.strike_s + 2 > scenario.run_s:
            found.append(f"--run-time: takes 2 s or more behind --cliff-at ({scenario.strike_s:g} s), got {scenario.run_s:g}")
        if scenario.strike == "waking":
            found += self._night_problems()
        return found

    def _night_problems(self) -> list[str]:
        """What leaves nobody who talks at night."""
        scenario, found = self.scenario, list[str]()
        if not scenario.people.get(TALKER, 0) and scenario.people:
            found.append(f"--people: takes talkers, for {scenario.name}: somebody has to talk at night, got none")
        if round(scenario.users * (1 - scenario.share), 6) < 1:
            found.append(
                f"--share: takes one that leaves somebody up to talk at night, for {scenario.name} and {scenario.users} people, "
                f"got {scenario.share:g}"
            )
        return found

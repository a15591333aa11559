"""What a storm has to reach beside a clean verdict: a small TOML file, and what came of each line of it. Pure but for the reading.

Lines at the top hold for every scenario, those in a table of a scenario's name for that one alone.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from loadtest.scenarios import SCENARIOS

#: By name: what the figure is. All of them are limits: what is measured must not be over it.
NAMES: Mapping[str, str] = {
    "connect_p99_ms": "99 of 100 first connections took no longer",
    "reconnect_p50_ms": "half of those who lost their connection were level again in this time",
    "reconnect_p95_ms": "95 of 100 of them",
    "reconnect_p99_ms": "99 of 100 of them",
    "ack_p99_ms": "99 of 100 messages were acked in this time, from when they were due",
    "delivery_p99_ms": "99 of 100 live deliveries came in this time, from when the message was due",
    "lateness_p99_ms": "99 of 100 sessions were told of their end no later than this behind it",
    "lateness_max_ms": "all of them",
    "revocation_max_ms": "all whose tokens were withdrawn were told in this time",
    "all_back_s": "everybody was back in this time after the strike",
    "lost": "events that somebody did not get",
    "duplicated": "events that somebody got twice",
    "out_of_order": "events that somebody got behind a later one",
    "late": "events that came past the end of a session",
    "early": "sessions that were ended before their token had",
    "own_late_ms": "the load test itself kept no packet waiting for longer",
}


class Unreadable(Exception):
    """The file is no list of objectives; one line."""


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One of them, and what was measured; None: nothing of the kind happened, which misses no objective."""

    name: str
    limit: float
    measured: float | None

    @property
    def met(self) -> bool:
        return self.measured is None or self.measured <= self.limit

    def __str__(self) -> str:
        got = "nothing of the kind" if self.measured is None else f"{self.measured:g}"
        return f"objective {'met' if self.met else 'MISSED'}: {self.name}: {got}, at most {self.limit:g}"


def read(path: Path, scenario: str) -> dict[str, float]:
    """The limits for this scenario. Raises `Unreadable`, of what stands in the tables of others too."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Unreadable(f"a file of objectives in TOML, got {str(path)!r}: {error}") from None
    of_all, tables = dict[str, float](), dict[str, dict[str, float]]()
    for name, value in found.items():
        if name in SCENARIOS:
            tables[name] = _table(name, value)
        elif isinstance(value, dict):
            raise Unreadable(f"tables of {', '.join(SCENARIOS)}, got [{name}]")
        else:
            of_all[name] = _limit(name, value)
    return of_all | tables.get(scenario, {})


def _table(scenario: str, found: Any) -> dict[str, float]:
    if not isinstance(found, dict):
        raise Unreadable(f"a table for the scenario {scenario}, got {found!r}")
    return {name: _limit(name, value) for name, value in found.items()}


def _limit(name: str, value: Any) -> float:
    if name not in NAMES:
        raise Unreadable(f"objectives of {', '.join(NAMES)}, got {name!r}")
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise Unreadable(f"{name} as a number of 0 or more, got {value!r}")
    return float(value)


def judged(limits: Mapping[str, float], measured: Mapping[str, float | None]) -> list[Objective]:
    """What came of each."""
    return [Objective(name=name, limit=limit, measured=measured.get(name)) for name, limit in limits.items()]

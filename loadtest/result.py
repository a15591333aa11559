"""A storm as it is written down: one JSON object with everything that its report shows. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtest import measures
from loadtest.measures import Measures, Summary, Times, all_back_s, dense
from loadtest.objectives import Objective, judged
from loadtest.options import Plan
from loadtest.outcome import Cost, Leftover, Outcome
from loadtest.scenarios import Scenario

FORMAT = 1
_RETURNS_FROM_S = 1.0  # before the strike a loss counts to it: clocks differ a little
_CLIFF_S = 5.0  # behind it a token that ends is another's: of this cliff's the last has been closed long before
_MOST_FAULTS = 100  # that are written down one by one


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the cluster, or to people, so many seconds after the start."""

    name: str
    at_s: float


class Nodes(msgspec.Struct, kw_only=True):
    """What the nodes took, where the storm could see it: cores by second, and resident memory at the end."""

    cpu_s: float = 0.0
    cores: dict[int, float] = {}  # that they had on average, by second
    memory_mb: dict[str, float] = {}  # by process


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict, as it is written down."""

    clean: bool
    clients: int
    acked: int
    seen: int
    counts: dict[str, int]  # faults, by kind
    faults: list[str]
    leftover: Leftover
    missing: int
    problems: list[str]
    absence: str = ""  # what there is to say where fewer people came than were asked for


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one storm. Seconds count from its start."""

    format: int = FORMAT
    title: str
    scenario: str
    settings: dict[str, Any]
    began: float  # seconds since the epoch
    lasted_s: float
    struck_s: float | None
    marks: list[Mark]
    ok: bool
    verdict: Judgement
    objectives: list[Objective]
    figures: dict[str, float | None]  # those that objectives can be set for, and a few more
    times: dict[str, Summary]
    curves: dict[str, list[tuple[float, float]]]  # by name of what was timed: (ms, share of it that took no longer)
    refusals: dict[str, int]
    ends: dict[str, int]
    series: dict[str, list[float]]  # by name: a number for each second
    cost: Cost
    nodes: Nodes

    @property
    def said(self) -> str:
        """The verdict in a few words, the same wherever it is told."""
        return "clean" if self.ok else "clean, but an objective was missed" if self.verdict.clean else "NOT CLEAN"

    def lines(self) -> list[str]:
        """The figures for a terminal."""
        rows = [f"{'':38}{'count':>9}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'most ms':>10}"]
        for name, one in self.times.items():
            rows.append(f"{name:38}{one.count:>9}{one.p50_ms:>10.1f}{one.p95_ms:>10.1f}{one.p99_ms:>10.1f}{one.max_ms:>10.1f}")
        told = {
            "handshakes in the fullest second": self.figures["peak_handshakes"],
            "renewals in the fullest second": self.figures["peak_renewals"],
            "all back after (s)": self.figures["all_back_s"],
        }
        rows += [f"{name:38}{value:>9.6g}" for name, value in told.items() if value is not None]
        rows += [f"{'refused: ' + code:38}{count:>9}" for code, count in sorted(self.refusals.items())]
        rows.append(f"{'cost of the load test':38}{self.cost.us_an_event:g} us an event, {self.cost.kib_a_person:g} KiB a person")
        return [*rows, *(str(objective) for objective in self.objectives)]


def result_of(
    plan: Plan,
    outcome: Outcome,
    measured: Measures,
    *,
    title: str,
    began: float,
    lasted_s: float,
    marks: Sequence[Mark],
    nodes: Nodes,
    limits: Mapping[str, float],
) -> Result:
    """What there is to write down of a storm."""
    scenario = plan.scenario
    struck_s = scenario.strike_s if scenario.strike != "nothing" else None
    ends_s = max(0, int(lasted_s) - 1)  # the last whole second: what comes behind it is the closing of the load test itself
    figures = _figures(measured, outcome, scenario, ends_s)
    objectives = judged(limits, figures)
    return Result(
        title=title,
        scenario=scenario.name,
        settings=plan.told(),
        began=began,
        lasted_s=round(lasted_s, 1),
        struck_s=struck_s,
        marks=list(marks),
        ok=outcome.ok and all(objective.met for objective in objectives),
        verdict=_judgement(outcome),
        objectives=objectives,
        figures=figures,
        times={name: times.summary() for name, times in sorted(measured.times.items())},
        curves={name: _curve(times) for name, times in sorted(measured.times.items())},
        refusals=measured.refusals,
        ends=measured.ends,
        series=_series(measured, nodes, ends_s),
        cost=outcome.cost,
        nodes=nodes,
    )


def _judgement(outcome: Outcome) -> Judgement:
    verdict = outcome.verdict
    return Judgement(
        clean=outcome.ok,
        clients=verdict.clients,
        acked=verdict.acked,
        seen=verdict.seen,
        counts=dict(verdict.counts.items()),
        faults=[f"{one.kind}: {one.client} {one.room} {one.seq} {one.event}" for one in verdict.faults[:_MOST_FAULTS]],
        leftover=outcome.leftover,
        missing=outcome.missing,
        problems=list(outcome.problems),
        absence=outcome.absence,
    )


def _figures(measured: Measures, outcome: Outcome, scenario: Scenario, ends_s: int) -> dict[str, float | None]:
    struck_s = scenario.strike_s if scenario.strike != "nothing" else None

    def ms(name: str, share: float) -> float | None:
        times = measured.times.get(name)
        return None if times is None else round(1000 * (times.percentile(share) if share < 1 else times.most), 1)

    counts = outcome.verdict.counts
    begins_s, back_s = 0.0, None
    if struck_s is not None:
        begins_s = struck_s - _RETURNS_FROM_S
        ends_by_s = struck_s + _CLIFF_S if scenario.strike == "cliff" else begins_s
        back_s = all_back_s(measured.returns, struck_s=struck_s, begins_s=begins_s, tokens_end_by_s=ends_by_s)
    return {
        "connect_p99_ms": ms(measures.CONNECT, 0.99),
        "reconnect_p50_ms": ms(measures.RECONNECT, 0.5),
        "reconnect_p95_ms": ms(measures.RECONNECT, 0.95),
        "reconnect_p99_ms": ms(measures.RECONNECT, 0.99),
        "ack_p99_ms": ms(measures.ACK, 0.99),
        "delivery_p50_ms": ms(measures.DELIVERY, 0.5),
        "delivery_p99_ms": ms(measures.DELIVERY, 0.99),
        "lateness_p99_ms": ms(measures.LATENESS, 0.99),
        "lateness_max_ms": ms(measures.LATENESS, 1),
        "revocation_max_ms": ms(measures.REVOCATION, 1),
        "all_back_s": None if back_s is None else round(back_s, 2),
        "peak_handshakes": measured.peak(measures.TRIED, begins_s=begins_s, ends_s=ends_s),
        "peak_renewals": measured.peak(measures.RENEWED, ends_s=ends_s),
        "lost": counts["lost"] + counts["hole"],
        "duplicated": counts["duplicated"],
        "out_of_order": counts["out_of_order"],
        "late": counts["late"],
        "early": counts["early"],
        "own_late_ms": outcome.cost.late_ms,
    }


def _curve(times: Times) -> list[tuple[float, float]]:
    """At each size that occurred, the share that took no longer; at most 200 points."""
    steps = [step / 200 for step in range(1, 200)]
    found: dict[float, float] = {}
    for share in [*steps, 0.999, 1.0]:
        found[round(1000 * (times.percentile(share) if share < 1 else times.most), 3)] = share
    return sorted(found.items())


def _series(measured: Measures, nodes: Nodes, ends_s: int) -> dict[str, list[float]]:
    series: dict[str, list[float]] = {name: list(dense(one, 0, ends_s)) for name, one in sorted(measured.series.items())}
    let_in, lost = (dense(measured.series.get(name, {}), 0, ends_s) for name in (measures.LET_IN, measures.LOST))
    here, sessions = 0, list[float]()
    for came, went in zip(let_in, lost, strict=True):
        here += came - went
        sessions.append(here)
    series["sessions"] = sessions
    if nodes.cores:
        series["cores of the nodes"] = [round(nodes.cores.get(second, 0.0), 3) for second in range(ends_s + 1)]
    return series

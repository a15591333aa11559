"""How many nodes for how many sessions: a model over the costs of `bench/storm_costs.py`, written into docs/planning.md.

Nothing is run here. The model and its assumptions are that page's; the table in it is made anew.
"""

import json
import math
from collections.abc import Mapping

import msgspec

from bench.report import RESULTS
from bench.storm_runs import DOCS, write_between

PAGE = DOCS / "planning.md"
BEGIN, END = "<!-- the plan: make bench ARGS=plan -->", "<!-- the end of the plan -->"
MOST_NODES = 1_000  # of one cluster
MOST_CLUSTERS = 100
WINDOWS_S = (30, 60, 120, 300, 600, 900, 1_800)


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node: microseconds of one core, and KiB of memory."""

    idle_us: float  # of an open session, each second
    renewal_us: float
    return_us: float
    message_us: float  # of one that its own people say, all deliveries but none
    followed_us: float  # of an event that other nodes' people made
    delivery_us: float
    session_kib: float = 40.0  # bench/handshake_storm.py
    membership_kib: float = 0.5  # of the whole cluster, on every node: ARCHITECTURE.md, Limits


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be served."""

    name: str
    sessions: int
    ttl_s: float = 3_600.0
    renewing: float = 0.98
    rooms_each: int = 5
    members: int = 50  # of a room, connected
    messages_s: float = 1 / 600  # of one session
    together: float = 0.5  # the share of tokens that end in the same second, at worst
    utilised: float = 0.5  # of each node's core on any day
    at_worst: float = 0.85  # and while the renewals of a cliff are spread


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes; `nodes` 0: no number of nodes does, since each of them follows everything. All but `clusters` is of one cluster."""

    window_s: int
    clusters: int
    nodes: int
    cores_any_day: float  # of one node
    cores_cliff: float
    renewals_any_day: float  # a second
    renewals_cliff: float
    back_s: float  # until those are level again who fall off the cliff all the same
    memory_mb: float  # of one node


def followed(crowd: Crowd, renewals: float) -> float:
    """Events a second that everybody's node has to know of."""
    return crowd.sessions * crowd.messages_s + renewals


def cores(crowd: Crowd, costs: Costs, nodes: int, renewals: float) -> float:
    """Of one node of so many, at so many renewals a second of the cluster."""
    said = crowd.sessions * crowd.messages_s
    own = (
        crowd.sessions * costs.idle_us
        + renewals * costs.renewal_us
        + said * (costs.message_us + crowd.members * costs.delivery_us)
    )
    others = followed(crowd, renewals) * (nodes - 1) * costs.followed_us
    return (own + others) / nodes / 1e6


def plan(crowd: Crowd, costs: Costs, window_s: int) -> Plan:
    """The least number of nodes that keeps to both limits, with one more to spare for a node that is away."""
    any_day = crowd.sessions * crowd.renewing / crowd.ttl_s
    cliff = any_day + crowd.sessions * crowd.together * crowd.renewing / window_s

    def fits(nodes: int) -> bool:
        day = cores(crowd, costs, nodes, any_day) <= crowd.utilised
        return day and cores(crowd, costs, nodes, cliff) <= crowd.at_worst

    needed = next((nodes for nodes in range(1, MOST_NODES) if fits(nodes)), 0)
    nodes = needed + 1 if needed else 0
    served = max(nodes, 1)
    falling = crowd.sessions * crowd.together * (1 - crowd.renewing)
    room = max(0.01, crowd.at_worst - cores(crowd, costs, served, any_day))
    kib = crowd.sessions / served * costs.session_kib + crowd.sessions * crowd.rooms_each * costs.membership_kib
    return Plan(
        window_s=window_s,
        clusters=1,
        nodes=nodes,
        cores_any_day=cores(crowd, costs, served, any_day),
        cores_cliff=cores(crowd, costs, served, cliff),
        renewals_any_day=any_day,
        renewals_cliff=cliff,
        back_s=falling / served * costs.return_us / 1e6 / room,
        memory_mb=kib / 1024,
    )


def cheapest(crowd: Crowd, costs: Costs, window_s: int) -> Plan | None:
    """The crowd parted over as many clusters as take the fewest nodes together; of those, the fewest. None where no number does."""
    best: Plan | None = None
    for clusters in range(1, MOST_CLUSTERS + 1):
        one = plan(msgspec.structs.replace(crowd, sessions=math.ceil(crowd.sessions / clusters)), costs, window_s)
        if one.nodes and (best is None or clusters * one.nodes < best.clusters * best.nodes):
            best = msgspec.structs.replace(one, clusters=clusters)
    return best


def costs_of(rows: list[Mapping[str, object]]) -> Costs:
    """What `bench/storm_costs.py` has measured."""
    each = {str(row["what"]): float(str(row["us_each"])) for row in rows}
    members = float(str(next(row["members"] for row in rows if row["what"] == "delivery")))
    return Costs(
        idle_us=each["idle"],
        renewal_us=each["renewal"],
        return_us=each["return"],
        message_us=each["message"],
        followed_us=each["followed"],
        delivery_us=max(0.0, each["delivery"] - each["message"] / members),
    )


def table(crowd: Crowd, costs: Costs) -> list[str]:
    """The rows of one crowd, as Markdown."""
    lines = [
        f"**{crowd.name}**",
        "",
        "| window | as one cluster | fewest nodes: clusters x nodes | cores a node: any day, cliff "
        "| renewals/s of a cluster: any day, cliff | the fallen are back in | memory a node |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for window_s in WINDOWS_S:
        whole, one = plan(crowd, costs, window_s).nodes, cheapest(crowd, costs, window_s)
        if one is None:
            lines.append(f"| {window_s:,} s | none do | none do | | | | |")
            continue
        lines.append(
            f"| {window_s:,} s | {whole or 'none do'} | {one.clusters} x {one.nodes} | {one.cores_any_day:.2f}, {one.cores_cliff:.2f} "
            f"| {one.renewals_any_day:,.0f}, {one.renewals_cliff:,.0f} | {math.ceil(one.back_s)} s | {one.memory_mb:,.0f} MB |"
        )
    return [*lines, ""]


def main() -> None:
    """Make the page's table anew."""
    found = json.loads((RESULTS / "storm_costs.json").read_text())
    costs = costs_of(found["rows"])
    head = [
        "",
        f"Costs of {found['date'][:10]}, in microseconds: "
        + ", ".join(f"{name.removesuffix('_us').replace('_', ' ')} {value:,.0f}" for name, value in _us(costs)),
    ]
    body = [
        line
        for sessions in (100_000, 1_000_000)
        for line in table(Crowd(name=f"{sessions:,} sessions", sessions=sessions), costs)
    ]
    write_between(PAGE, BEGIN, END, "\n".join([*head, "", *body]).strip("\n"))
    print("\n".join(body))
    print(f"  written to {PAGE}")


def _us(costs: Costs) -> list[tuple[str, float]]:
    return [(name, value) for name, value in msgspec.structs.asdict(costs).items() if name.endswith("_us")]

"""How a storm stands, as a table of names and values: for Locust's page, and for Prometheus. Pure."""

from loadtest import measures
from loadtest.board import Board
from loadtest.result import Result

#: Of the tab on Locust's page, which sorts the rows of a table by what they have as `name`: these have none, and keep their order.
COLUMNS = [{"key": "what", "title": "What"}, {"key": "value", "title": "How much"}]


def verdict_so_far(board: Board | None, result: Result | None) -> list[tuple[str, str]]:
    """What to tell a person: the verdict once there is one, before that what can be known of it."""
    if result is not None:
        verdict = result.verdict
        rows = [("verdict", result.said)]
        rows += [(kind.replace("_", " "), f"{count:,}") for kind, count in verdict.counts.items()]
        rows += [("absent", verdict.absence)] if verdict.absence else []
        rows += [("at the end", str(verdict.leftover))] if verdict.leftover else []
        rows += [("problem", problem) for problem in verdict.problems]
        rows += [("fault", fault) for fault in verdict.faults[:20]]
        return rows + [(f"objective {one.name}", str(one)) for one in result.objectives]
    if board is None:
        return [("verdict", "no storm yet")]
    live = board.live
    return [
        ("verdict", "so far nothing missed, nothing twice" if not live.faults else "so far there are faults"),
        ("people", f"{live.people:,}"),
        ("here", f"{live.here:,}"),
        ("away", f"{live.away:,}"),
        ("away on purpose", f"{live.asleep:,}"),
        ("messages without an answer yet", f"{live.unacked:,}"),
        ("events seen", f"{live.seen:,}"),
        ("skipped (may still come, too late)", f"{live.skipped:,}"),
        ("came again, or too late", f"{live.repeated:,}"),
        ("handshakes a second", f"{board.rate(measures.TRIED):,.1f}"),
        ("refusals a second", f"{board.rate(measures.REFUSED):,.1f}"),
        ("deliveries a second", f"{board.rate(measures.DELIVERED):,.1f}"),
        ("the load test itself was late by (ms, at most)", f"{live.late_ms:,}"),
    ]


def table_of(board: Board | None, result: Result | None) -> list[dict[str, str]]:
    """The same as rows of `COLUMNS`."""
    first, second = (column["key"] for column in COLUMNS)
    return [{first: name, second: value} for name, value in verdict_so_far(board, result)]


def timed(board: Board) -> list[tuple[str, measures.Times]]:
    """What was timed so far, by name."""
    return sorted(board.measured.times.items())

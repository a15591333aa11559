"""What is held of every query, in rules and panels: that it parses, and that what it names exists."""

from collections.abc import Iterator

from monitoring.known import labels, values
from monitoring.promql import Selector, grouped, selectors


def faults(expression: str) -> Iterator[str]:
    """What is wrong with it, in words."""
    try:
        asked, groups = selectors(expression), grouped(expression)
    except ValueError as error:
        yield f"is no PromQL: {error}"
        return
    for selector in asked:
        yield from _of_selector(selector)
    for left, metrics in groups:
        there = frozenset().union(*(labels().get(metric, left) for metric in metrics))
        yield from (f"{', '.join(sorted(metrics))} has no label {label}" for label in sorted(left - there))


def _of_selector(selector: Selector) -> Iterator[str]:
    known = labels().get(selector.metric)
    if known is None:
        yield f"there is no {selector.metric}"
        return
    yield from (f"{selector.metric} has no label {label}" for label, _, _ in selector.matchers if label not in known)
    for label, word in selector.words():
        allowed = values(selector.metric, label)
        if allowed is not None and word and word not in allowed:
            yield f"{selector.metric} never has {label}={word}"

"""What a PromQL expression asks for: parsed, not searched."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import promql_parser

#: What Grafana puts into a query, and something of its kind: outside of strings it is no PromQL.
_VARIABLES = {"$__rate_interval": "1m", "$__interval": "5s", "$__range": "30m"}
_WORDS = re.compile(r"[\w /-]+(\|[\w /-]+)*")  # a pattern that is a choice of plain words


class Selector(NamedTuple):
    """A metric that is asked for, and by which labels."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]  # (label, operator as it is written, value)

    def by(self, label: str) -> list[tuple[str, str]]:
        """What the label has to fulfil: (operator, value)."""
        return [(operator, value) for name, operator, value in self.matchers if name == label]

    def words(self) -> Iterator[tuple[str, str]]:
        """Each (label, value) that is named as it is, alone or as one of a choice."""
        for label, operator, value in self.matchers:
            if operator in ("=", "!="):
                yield label, value
            elif _WORDS.fullmatch(value):
                yield from ((label, word) for word in value.split("|"))


_OPERATORS = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}


def without_variables(query: str) -> str:
    """A query as Grafana might send it, but for the variables within strings."""
    for variable, value in _VARIABLES.items():
        query = query.replace(variable, value)
    return query


def selectors(expression: str) -> list[Selector]:
    """All that it asks for. Raises `ValueError` where it is no PromQL."""
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = tuple((one.name, _OPERATORS[str(one.op)], one.value) for one in node.matchers.matchers)
            found.append(Selector(node.name or "", matchers))

    promql_parser.walk(promql_parser.parse(without_variables(expression)), pre_visit=visit)
    return found


def grouped(expression: str) -> list[tuple[frozenset[str], frozenset[str]]]:
    """For each aggregation: the labels that are left, and the metrics in it. Raises `ValueError` where it is no PromQL."""
    found: list[tuple[frozenset[str], frozenset[str]]] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.append((frozenset(node.modifier.labels), frozenset(one.metric for one in selectors(node.expr.prettify()))))

    promql_parser.walk(promql_parser.parse(without_variables(expression)), pre_visit=visit)
    return found

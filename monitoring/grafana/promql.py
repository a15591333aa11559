"""Pieces of PromQL that the panels share, over the chosen job and nodes and in steps that fit what is shown."""

from monitoring.grafana.board import NODE

_STEP = "[$__rate_interval]"


def of(metric: str, labels: str = "") -> str:
    """A metric of the chosen nodes."""
    return f"{metric}{{{NODE}, {labels}}}" if labels else f"{metric}{{{NODE}}}"


def rate(metric: str, labels: str = "") -> str:
    """A counter's steps a second."""
    return f"rate({of(metric, labels)}{_STEP})"


def total(series: str, *, by: str = "") -> str:
    """The sum of series, for each value of the labels `by`."""
    return f"sum by ({by}) ({series})" if by else f"sum({series})"


def most(series: str, *, by: str = "") -> str:
    """The highest of series, for each value of the labels `by`."""
    return f"max by ({by}) ({series})" if by else f"max({series})"


def quantile(share: float, histogram: str, *, by: str = "") -> str:
    """Under which so many of a histogram's observations lie, for each value of the labels `by`."""
    buckets = total(rate(f"{histogram}_bucket"), by=f"le, {by}" if by else "le")
    return f"histogram_quantile({share}, {buckets})"

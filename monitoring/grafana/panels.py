"""The kinds of panels that the dashboards are made of, on Grafana's own types and builders.

Each takes a title, what it shows in a sentence or two, a unit of Grafana's, and its queries.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, heatmap, prometheus, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from monitoring.grafana.runbook import section_url

SOURCE = model.DataSourceRef(type_val="prometheus", uid="prometheus")  # as provisioned
COLUMNS = 24  # of Grafana's grid
GOOD, ODD, BAD = "green", "orange", "red"
COLOURS = {
    **dict.fromkeys(("accepted", "refreshed", "ok", "ready"), GOOD),
    **dict.fromkeys(("refused", "closed"), ODD),
    **dict.fromkeys(("busy", "not ready", "gone"), BAD),
    **dict.fromkeys(("what can be taken", "bound"), "text"),
}
_NAMED_BY = {"{{outcome}}": ("accepted", "refused", "busy", "ok"), "{{result}}": ("refreshed", "closed")}
Panel = Builder[model.Panel]


class Query(NamedTuple):
    """A PromQL expression, and what its series are called: `{{label}}` is replaced."""

    expr: str
    legend: str = ""


class Limits(NamedTuple):
    """From where on a value is bad, and from where on it is odd, if anything is before it is bad."""

    bad: float
    odd: float | None = None


class _Chart(Protocol):
    """What the SDK's builders of panels have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def datasource(self, datasource: model.DataSourceRef) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def with_target(self, target: Builder[Dataquery]) -> Self: ...
    def links(self, links: list[Builder[model.DashboardLink]]) -> Self: ...


_Any = TypeVar("_Any", bound=_Chart)


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    limits: Limits | None = None,
    most: float | None = None,
    runbook: str | None = None,
) -> Panel:
    """Values over time; `limits` are drawn, `most` is the top of the axis, `runbook` the alert whose section it leads to."""
    panel = _framed(timeseries.Panel(), title, description, unit, _targets(queries), width, height, runbook)
    panel.min(0).fill_opacity(30 if stacked else 8).line_width(1).show_points(kinds.VisibilityMode.NEVER)
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if limits is not None:
        panel.thresholds(_thresholds(limits))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    if most is not None:
        panel.max(most)
    for name in (name for query in queries for name in _NAMED_BY.get(query.legend, (query.legend,)) if name in COLOURS):
        panel.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": COLOURS[name]})])
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    limits: Limits | None = None,
    width: int = 4,
    runbook: str | None = None,
) -> Panel:
    """One value, large, with its course behind it."""
    panel = _framed(stat.Panel(), title, description, unit, _targets([query]), width, 4, runbook)
    panel.graph_mode(kinds.BigValueGraphMode.AREA).reduce_options(_last())
    return panel.thresholds(_thresholds(limits))


def bars(
    title: str, description: str, unit: str, *queries: Query, limits: Limits, width: int = 8, runbook: str | None = None
) -> Panel:
    """One bar for each query, as it is now."""
    targets = [target.instant() for target in _targets(queries)]
    panel = _framed(bargauge.Panel(), title, description, unit, targets, width, 8, runbook)
    panel.orientation(kinds.VizOrientation.VERTICAL).reduce_options(_last()).thresholds(_thresholds(limits))
    return panel.min(0)


def states(
    title: str, description: str, *queries: Query, names: Mapping[int, str], width: int = 8, runbook: str | None = None
) -> Panel:
    """A bar over time for each series, whose values have names."""
    panel = _framed(statetimeline.Panel(), title, description, "none", _targets(queries), width, 8, runbook)
    options = {str(value): model.ValueMappingResult(text=name, color=COLOURS[name]) for value, name in names.items()}
    return panel.mappings([model.ValueMap(options=options)]).merge_values(True).row_height(0.8)


def spread(title: str, description: str, unit: str, query: Query, *, width: int = 8) -> Panel:
    """A histogram over time; the query's series are its buckets, by `le`."""
    targets = [target.format(PromQueryFormat.HEATMAP) for target in _targets([query])]
    panel = _framed(heatmap.Panel(), title, description, "short", targets, width, 8, None)
    return panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).color(heatmap.HeatmapColorOptions().scheme("Blues"))


def listing(
    title: str, description: str, query: Query, *, columns: Sequence[str], width: int, runbook: str | None = None
) -> Panel:
    """A row for each series as it is now, with these of its labels."""
    targets = [target.instant().format(PromQueryFormat.TABLE) for target in _targets([query])]
    panel = _framed(table.Panel(), title, description, "none", targets, width, 8, runbook)
    shown: dict[str, Any] = {"include": {"names": list(columns)}}
    panel.with_transformation(model.DataTransformerConfig(id_val="filterFieldsByName", options=shown))
    order: dict[str, Any] = {"indexByName": {name: place for place, name in enumerate(columns)}}
    return panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=order))


def words(title: str, description: str, content: str, *, height: int) -> Panel:
    """Markdown."""
    return (
        text.Panel().title(title).description(description).mode(TextMode.MARKDOWN).content(content).span(COLUMNS).height(height)
    )


def _framed(
    panel: _Any,
    title: str,
    description: str,
    unit: str,
    targets: Iterable[Builder[Dataquery]],
    width: int,
    height: int,
    runbook: str | None,
) -> _Any:
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    for target in targets:
        panel.with_target(target)
    if runbook is not None:
        panel.links([build.DashboardLink(f"Runbook: {runbook}").type(model.DashboardLinkType.LINK).url(section_url(runbook))])
    return panel


def _targets(queries: Sequence[Query]) -> list[prometheus.Dataquery]:
    letters = zip("ABCDEFGH", queries, strict=False)
    return [
        prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(SOURCE)
        for letter, query in letters
    ]


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _thresholds(limits: Limits | None) -> build.ThresholdsConfig:
    steps = [model.Threshold(color="text" if limits is None else GOOD)]
    if limits is not None and limits.odd is not None:
        steps.append(model.Threshold(value=limits.odd, color=ODD))
    if limits is not None:
        steps.append(model.Threshold(value=limits.bad, color=BAD))
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)

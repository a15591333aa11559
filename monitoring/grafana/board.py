"""What all dashboards have in common: variables, links to one another, what is marked on their time axes, rows."""

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from monitoring.grafana.panels import SOURCE, Panel
from monitoring.grafana.runbook import UID as RUNBOOK_UID

TAG = "tidegate"
JOB = 'job=~"$job"'
NODE = f'{JOB}, instance=~"$node"'


class Row(NamedTuple):
    """A heading and what stands under it."""

    title: str
    panels: Sequence[Panel]


class Mark(NamedTuple):
    """What is marked on the time axis, while its query has a value that is not 0."""

    name: str
    colour: str
    expr: str
    title: str  # `{{label}}` is replaced


MARKS = (
    Mark("Drains", "blue", f'tidegate_not_ready{{{NODE}, reason="draining"}} == 1', "{{instance}} drains"),
    Mark("Restarts", "purple", f"changes(process_start_time_seconds{{{NODE}}}[1m]) > 0", "{{instance}} was started again"),
    Mark("Gone", "red", f"up{{{NODE}}} == bool 0 > 0", "{{instance}} does not answer"),
    Mark("Storms", "orange", f'ALERTS{{{JOB}, alertname="TidegateStorm", alertstate="firing"}}', "a reconnect storm"),
)


def board(
    uid: str, title: str, description: str, *, rows: Sequence[Row], info: str, marks: Sequence[Mark] = MARKS
) -> build.Dashboard:
    """A dashboard over the jobs and the nodes of which `info`, a metric that each of them has, tells."""
    made = _empty(uid, title, description).with_variable(_choice("job", "Job", f"label_values({info}, job)", everything=False))
    made.with_variable(_choice("node", "Node", f"label_values({info}{{{JOB}}}, instance)", everything=True))
    for mark in marks:
        made.annotation(_Annotation(mark))
    made.link(
        build.DashboardLink("Tidegate").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True).keep_time(True)
    )
    made.link(build.DashboardLink("Runbook").type(model.DashboardLinkType.LINK).url(f"/d/{RUNBOOK_UID}").icon("doc"))
    for number, row in enumerate(rows, 1):
        made.with_row(build.Row(row.title).id(100 * number))
        for place, panel in enumerate(row.panels, 1):
            made.with_panel(_Numbered(panel, 100 * number + place))
    return made


def pages(uid: str, title: str, description: str, panels: Sequence[Panel]) -> build.Dashboard:
    """A dashboard without data: panels numbered from 1, one under the other."""
    made = _empty(uid, title, description)
    for number, panel in enumerate(panels, 1):
        made.with_panel(_Numbered(panel, number))
    return made


def _empty(uid: str, title: str, description: str) -> build.Dashboard:
    made = build.Dashboard(title).uid(uid).description(description).tags([TAG]).timezone("browser").readonly()
    return made.time("now-30m", "now").refresh("10s").tooltip(model.DashboardCursorSync.CROSSHAIR)


def _choice(name: str, label: str, query: str, *, everything: bool) -> build.QueryVariable:
    made = build.QueryVariable(name).label(label).query(query).datasource(SOURCE).sort(model.VariableSort.ALPHABETICAL_ASC)
    made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    if everything:
        made.multi(True).include_all(True).current(model.VariableOption(selected=True, text="All", value="$__all"))
    return made


class _Numbered(Builder[model.Panel]):
    """A panel under a number of its own, by which links find it."""

    def __init__(self, panel: Panel, number: int) -> None:
        self._panel, self._number = panel, number

    def build(self) -> model.Panel:
        made = self._panel.build()
        made.id_val = self._number
        return made


class _Annotation(Builder[model.AnnotationQuery]):
    """Grafana's type of it is not the whole of it: what a query's marks are called is the data source's business."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark

    def build(self) -> model.AnnotationQuery:
        mark = self._mark
        return _Titled(mark.title, name=mark.name, datasource=SOURCE, icon_color=mark.colour, expr=mark.expr)


class _Titled(model.AnnotationQuery):
    def __init__(self, title: str, *, name: str, datasource: model.DataSourceRef, icon_color: str, expr: str) -> None:
        super().__init__(name=name, datasource=datasource, icon_color=icon_color, expr=expr)
        self._title = title

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self._title}

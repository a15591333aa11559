"""What `make check` holds of the rules and the dashboards, held to find what it is for: each planted fault is named."""

from typing import Any

import promql_parser
import pytest

import monitoring.check
import monitoring.dashboards
from monitoring.dashboards import dashboards, panels
from monitoring.grafana.files import written
from monitoring.known import HERE, labels, level, rules
from monitoring.pace import divided, faster, in_expression
from monitoring.queries import faults

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(tidegate_handshakes_total[5m]", "is no PromQL"),
        ("sum(tidegate_handshake_total)", "there is no tidegate_handshake_total"),
        ("job:tidegate_storms:sum", "there is no job:tidegate_storms:sum"),
        ('tidegate_not_ready{cause="deaf"}', "tidegate_not_ready has no label cause"),
        ('tidegate_not_ready{reason="dead"}', "tidegate_not_ready never has reason=dead"),
        ('tidegate_not_ready{reason=~"deaf|log gone"}', "tidegate_not_ready never has reason=log gone"),
        ("sum by (node) (tidegate_outbox_bytes)", "tidegate_outbox_bytes has no label node"),
        ("sum by (le) (rate(tidegate_delivery_seconds_count[5m]))", "tidegate_delivery_seconds_count has no label le"),
        ("rabbitmq_process_open_tcp_sockets", "there is no rabbitmq_process_open_tcp_sockets"),
    ],
)
def test_a_query_that_asks_for_what_is_not_there_is_found(query: str, fault: str) -> None:
    """No PromQL, no such metric, no such label, no such value of it: each has its words."""
    (found,) = faults(query)
    assert found.startswith(fault)


def test_a_query_of_what_is_there_has_no_fault() -> None:
    """Nodes' and RabbitMQ's metrics, a process', what is recorded, histograms, Grafana's variables."""
    for query in (
        'histogram_quantile(0.9, sum by (le, alg) (rate(tidegate_token_verify_seconds_bucket{job=~"$job"}[$__rate_interval])))',
        'process_resident_memory_bytes{instance="n1"} / on (job, instance) tidegate_memory_limit_bytes',
        'sum by (job) (rabbitmq_connections) and on () ALERTS{alertname="TidegateStorm", severity="warning"}',
        "max by (span) (job_span:tidegate_expiry_crowd_seconds:ratio) > 10",
    ):
        assert list(faults(query)) == []


def test_a_recorded_name_says_its_labels() -> None:
    """Its level is what it keeps; another word in it, or a part less, is no name."""
    assert level("instance:tidegate_memory:ratio") == {"job", "instance"}
    assert level("job_code:tidegate_handshakes_refused:rate5m") == {"job", "code"}
    assert labels()["job_span:tidegate_sessions_expiring:sum"] == {"job", "span"}
    for name in ("room:tidegate_memory:ratio", "job:tidegate_memory"):
        with pytest.raises(ValueError, match=r"is no level|not enough values"):
            level(name)


def without(panel: Json, *path: str) -> None:
    """Take what is at the end of the path away."""
    for name in path[:-1]:
        panel = panel[name]
    del panel[path[-1]]


def asking(panel: Json, query: str) -> None:
    """Let its first query be another."""
    panel["targets"][0]["expr"] = query


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (lambda panel: without(panel, "description"), "has no title or no description"),
        (lambda panel: without(panel, "fieldConfig", "defaults", "unit"), "has no unit"),
        (lambda panel: without(panel, "targets"), "asks for nothing"),
        (lambda panel: panel.update(titel="?"), "Grafana has no such fields, or other values in them: .panels[1].titel"),
        (
            lambda panel: panel.update(links=[{"title": "Runbook: TidegateStorm", "url": "/d/tidegate-runbook?viewPanel=99"}]),
            "leads to no",
        ),
        (lambda panel: panel.update(id=102), "two panels have the number 102"),
        (
            lambda panel: asking(panel, 'tidegate_outbox_bytes{instance=~"$node"}'),
            "tidegate_outbox_bytes is not of the chosen job",
        ),
        (
            lambda panel: asking(panel, 'tidegate_outbox_bytes{job=~"$job"}'),
            "tidegate_outbox_bytes is not of the chosen instance",
        ),
        (lambda panel: asking(panel, 'tidegate_outbox{job=~"$job"}'), "there is no tidegate_outbox"),
    ],
)
def test_a_broken_panel_is_found(broken: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a panel lacks, or asks for in vain, is named with the panel."""
    changed = dashboards()
    broken(panels(changed["storm.json"])[0])
    monkeypatch.setattr(monitoring.dashboards, "dashboards", lambda: changed)
    found = list(monitoring.dashboards.faults())
    assert found
    assert all(one.startswith("storm.json: ") for one in found)
    assert any(fault in one for one in found), found


def test_a_dashboard_that_was_changed_by_hand_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the builders would write in another way is named, and so is one that they do not write."""
    files = written()
    others = {name: text for name, text in files.items() if name != "auth.json"} | {"storm.json": files["storm.json"] + " "}
    monkeypatch.setattr("monitoring.dashboards.written", lambda: others)
    assert list(monitoring.dashboards.faults()) == [
        "auth.json: is not what `python -m monitoring.grafana` writes",
        "storm.json: is not what `python -m monitoring.grafana` writes",
    ]


def test_an_alert_without_its_page_or_its_tests_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is new, and one whose section has gone: each of what they lack is named."""
    new = {"alert": "TidegateBored", "expr": "up == 0", "labels": {"severity": "low"}, "annotations": {"summary": "?"}}
    kept = [rule for rule in rules() if rule.get("alert") != "TidegateDeaf"]
    monkeypatch.setattr(monitoring.check, "rules", lambda: [*kept, new])
    monkeypatch.setattr(monitoring.check, "alerts", lambda: [rule for rule in [*kept, new] if "alert" in rule])
    monkeypatch.setattr(monitoring.check, "_promtool", lambda *arguments: iter(()))
    assert set(monitoring.check.faults()) == {
        "TidegateBored: has no `for`",
        "TidegateBored: has none of the severities critical, warning, info",
        "TidegateBored: has no description",
        "TidegateBored: does not lead to its section of the runbook",
        "TidegateBored: has no section in the runbook",
        "runbook: TidegateDeaf is no alert",
        "TidegateBored: is silent in no test",
        "TidegateBored: fires in no test",
    }


def test_all_is_well_but_for_what_promtool_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed has no fault; promtool has its say in `make check`, since it takes ten seconds."""
    monkeypatch.setattr(monitoring.check, "_promtool", lambda *arguments: iter(()))
    assert list(monitoring.check.faults()) == []


def windows(expression: str) -> list[float]:
    """Every window and offset of an expression, in seconds."""
    found: list[float] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.range.total_seconds())
        if isinstance(node, promql_parser.VectorSelector) and node.offset is not None:
            found.append(node.offset.total_seconds())

    promql_parser.walk(promql_parser.parse(expression), pre_visit=visit)
    return found


def test_the_rules_at_another_pace_are_the_same_rules() -> None:
    """Each window, offset and `for` is a twentieth, as a parser reads it; names, labels, thresholds and words stay."""
    assert divided("1m", 20) == "3000ms"
    for rule in rules():
        quick = in_expression(rule["expr"], 20)
        assert windows(quick) == pytest.approx([seconds / 20 for seconds in windows(rule["expr"])])
        assert (
            in_expression(quick, 1 / 20).replace("000ms", "s").split()
            == in_expression(rule["expr"], 1).replace("000ms", "s").split()
        )
    for file in (HERE / "prometheus" / "rules").glob("*.yml"):
        text = faster(file.read_text(), 20)
        assert text.count("for: ") == file.read_text().count("        for: ")

"""The table of metrics: what it promises of labels and series, and that the docs, the code and a scraper have the same."""

import ast
import re
import typing
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from node.auth.key_set import Outcome
from node.config import SETTINGS
from node.edge.admin import ADMIN_NAMES
from node.edge.commands import REFRESH
from node.exposition import Registry
from node.instruments import OTHER, Counter, Described, Family, each, joint
from node.metrics import METRICS, REASONS, Metrics
from node.process_readings import ProcessReadings
from tests.unit.test_docs import OPERATIONS, coded, nodes, tables, texts

#: PROTOCOL section 7: names that nobody may change, with their types and labels.
CONTRACT = """
    tidegate_handshakes_total counter namespace outcome code transport source
    tidegate_handshake_seconds histogram outcome
    tidegate_token_verify_seconds histogram alg cache
    tidegate_token_ttl_seconds histogram
    tidegate_token_refreshes_total counter outcome code
    tidegate_token_expiries_total counter result
    tidegate_expiry_lateness_seconds histogram
    tidegate_sessions gauge transport
    tidegate_sessions_expiring gauge within
    tidegate_renewal_peak_per_second gauge
    tidegate_handshake_capacity_per_second gauge
    tidegate_session_ends_total counter reason
    tidegate_reconnect_gap_seconds histogram cause
    tidegate_resumes_total counter outcome
    tidegate_replayed_events_total counter
    tidegate_revocations_total counter
    tidegate_revocation_seconds histogram
    tidegate_commands_total counter command outcome
    tidegate_command_seconds histogram command
    tidegate_log_append_seconds histogram
    tidegate_log_events_total counter type
    tidegate_log_lag_seconds gauge partition
    tidegate_log_position gauge partition
    tidegate_broker_up gauge
    tidegate_broker_reconnects_total counter
    tidegate_canary_seconds histogram
    tidegate_deliveries_total counter
    tidegate_delivery_seconds histogram
    tidegate_slow_sockets_total counter
    tidegate_outbox_bytes gauge
    tidegate_jwks_fetches_total counter outcome
    tidegate_jwks_age_seconds gauge
    tidegate_loop_lag_seconds histogram
    tidegate_build_info gauge version python node
"""
#: What a label may be called: none of these tells who, where, on which session or with which token.
LABELS = """
    alg cache cause code command event generation namespace node outcome partition python reason result source transport type version
    within
"""


def values(metric: str, label: str) -> set[str]:
    """What a label of a metric may be."""
    (space,) = (space for space in METRICS[metric].spaces if label in space.names)
    return {combination[space.names.index(label)] for combination in space.values}


def exposed(accept: str = "") -> str:
    """A scrape of a node in which everything that has few series is there."""
    metrics = Metrics(node="n1", version="1.2.3")
    metrics.handshake("/", "websocket", ("accepted", "", "auth"), 0.02, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    metrics.delivery_seconds.observe(0.3, "0af7651916cd43dd8448eb211c80319c")
    return metrics.expose(accept)[0].decode()


def test_the_contract() -> None:
    """Every name of the contract, with its type and its labels."""
    for name, kind, *labels in map(str.split, CONTRACT.strip().splitlines()):
        assert (METRICS[name].kind, set(METRICS[name].label_names)) == (kind, set(labels)), name


def test_the_documented_table() -> None:
    """Each metric with its type, its labels and the bound on its series; and the sum of the bounds."""
    documented = {coded(name)[0]: (kind, coded(labels), most) for name, kind, labels, most, _ in tables(OPERATIONS, "metric")}
    assert documented == {one.name: (one.kind, list(one.label_names), f"{one.most_series:,}") for one in METRICS.values()}
    assert f"{sum(one.most_series for one in METRICS.values()):,} in all" in OPERATIONS.read_text()


def test_no_label_tells_who() -> None:
    """Labels have names of a short list, and each a closed list of values that a program, not a user, has written."""
    for one in METRICS.values():
        assert set(one.label_names) <= set(LABELS.split()), one.name
        assert all(space.values for space in one.spaces), one.name
        assert all(len(word) <= 24 for space in one.spaces for values in space.values for word in values), one.name


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.sampled_from(["1", "2", "3"])), max_size=50))
def test_no_value_from_outside_makes_a_series(given: list[tuple[str, str, str]]) -> None:
    """Whatever values are asked for, there are no more series than the bound and one; what is not in the list is counted as `other`."""
    described = Described("x_total", "counter", "", (joint("a", "b", of=[("x", "y"), ("x", "z")]), each("c", ("1", "2"))))
    family = Family(described, Counter)
    for values in given:
        family.labels(*values).inc()
    assert sum(child.value for child in family.children.values()) == len(given)
    for a, b, c in family.children:
        assert (a, b) in {("x", "y"), ("x", "z"), (OTHER, OTHER)} and c in {"1", "2", OTHER}


def test_lists_that_stand_in_two_places() -> None:
    """The values of labels are those that the code has."""
    assert values("tidegate_commands_total", "command") >= {*ADMIN_NAMES, REFRESH}
    assert values("tidegate_jwks_fetches_total", "outcome") == set(typing.get_args(Outcome))
    assert values("tidegate_token_verify_seconds", "alg") == set(
        re.findall(r"\b[HRPE]S\d+|EdDSA", SETTINGS["jwt_algorithms"].takes)
    )
    stored = (node for node in nodes("node/status.py") if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store))
    assert texts(node.slice for node in stored) == set(REASONS)


@pytest.mark.parametrize(("accept", "parse"), [("", text_families), ("application/openmetrics-text", openmetrics_families)])
def test_a_scraper_reads_it(accept: str, parse: typing.Callable[[str], Iterable[typing.Any]]) -> None:
    """Both forms are read by their parsers, under the names of the table, with units, and with no `_created`."""
    text = exposed(accept)
    families = {family.name: family for family in parse(text)}
    ours = {name.removesuffix("_total"): one for name, one in METRICS.items() if one.kind != "gauge"}
    assert {name for name in families if name.startswith("tidegate_")} == {*ours, "tidegate_build_info"} - {"process_cpu_seconds"}
    assert {name: families[name].type for name in ours} == {name: one.kind for name, one in ours.items()}
    assert "_created" not in text
    if accept:
        assert {name for name, family in families.items() if family.unit == "seconds"} >= {
            n for n in ours if n.endswith("_seconds")
        }
    assert {"process_resident_memory_bytes", "python_gc_collections", "python_info"} <= {
        n.removesuffix("_total") for n in families
    }


def test_examples_are_of_a_lineage_or_of_a_trace() -> None:
    """OpenMetrics has the last example of a bucket, under the name of what it is; Prometheus' text has none."""
    text = exposed("application/openmetrics-text")
    accepted = 'tidegate_handshake_seconds_bucket{le="0.025",outcome="accepted"} 1'
    assert f'{accepted} # {{lineage="01ARZ3NDEKTSV4RRFFQ69G5FAV"}} 0.02 ' in text
    assert 'tidegate_delivery_seconds_bucket{le="0.5"} 1 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.3 ' in text
    assert " # " not in exposed().replace("\n# ", "\n")


def test_what_is_rare_is_there_from_the_start() -> None:
    """A counter with few series has them all at 0, so that the first time is seen as a step."""
    text = exposed()
    assert 'tidegate_token_expiries_total{result="closed"} 0\n' in text
    assert 'tidegate_session_ends_total{reason="slow"} 0\n' in text
    assert "tidegate_commands_total{" not in text


@given(st.lists(st.floats(0, 20), max_size=60))
def test_histograms(observed: list[float]) -> None:
    """Each bucket counts what is not above its bound; the count and the sum are those of all."""
    registry = Registry([Described("x_seconds", "histogram", "", (), (0.5, 1, 5))])
    histogram = registry.histograms("x_seconds").labels()
    for value in observed:
        histogram.observe(value)
    (family,) = (one for one in text_families(registry.expose("")[0].decode()) if one.name == "x_seconds")
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    for bound in ("0.5", "1.0", "5.0", "+Inf"):
        assert samples["x_seconds_bucket", bound] == sum(value <= float(bound) for value in observed)
    assert samples["x_seconds_count", None] == len(observed)
    assert samples["x_seconds_sum", None] == pytest.approx(sum(observed))


def test_a_machine_without_proc(tmp_path: Path) -> None:
    """What is read of `/proc` is not there where that is missing, or is another system's; the rest is, and a scrape goes on."""
    rest = {"process_cpu_seconds_total", "process_max_fds"}
    assert {name for name, _, _ in ProcessReadings(tmp_path)()} == rest
    (tmp_path / "self").mkdir()
    for path in ("self/statm", "self/stat", "stat"):
        (tmp_path / path).write_text("of another form\n")
    assert {name for name, _, _ in ProcessReadings(tmp_path)()} == rest
    assert {name for name, _, _ in ProcessReadings()()} == {name for name in METRICS if name.startswith("process_")}

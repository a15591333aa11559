"""What Prometheus and Grafana are provisioned with is there, under the names that the others use; all settings anywhere are known."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from node.config import SETTINGS
from tests.support.compose import mounted, services
from tests.support.dockerfile import tracked
from tests.support.nodes import ROOT

PROMETHEUS = ROOT / "monitoring" / "prometheus" / "prometheus.yml"
GRAFANA = ROOT / "monitoring" / "grafana"
KNOWN = {setting.variable for setting in SETTINGS.values()} | {
    f"{one.variable}_FILE" for one in SETTINGS.values() if one.from_file
}


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.mark.parametrize("path", [path for path in tracked() if path.startswith(("deploy/", "monitoring/", "docker", "Docker"))])
def test_no_setting_that_is_none(path: str) -> None:
    """Whatever in deploy/, monitoring/, docker-compose.yml or the Dockerfile looks like a setting is one."""
    named = re.findall(r"\bTIDEGATE_[A-Z_]*[A-Z]", (ROOT / path).read_text())
    assert set(named) <= KNOWN


def test_prometheus_names_no_file_that_is_missing() -> None:
    """Each rule file that it names is there, and mounted beside its configuration."""
    folder = PROMETHEUS.parent
    for pattern in loaded(PROMETHEUS).get("rule_files", []):
        assert list(folder.glob(pattern)), pattern


def test_prometheus_asks_in_time() -> None:
    """Each job has a name of its own and knows of its targets anew often enough; an answer comes before the next question."""
    configuration = loaded(PROMETHEUS)
    assert set(configuration) <= {"global", "rule_files", "scrape_configs"}
    jobs = configuration["scrape_configs"]
    names = [job["job_name"] for job in jobs]
    assert names == ["tidegate", "rabbitmq", "haproxy", "prometheus"]
    timing = configuration["global"]
    assert int(timing["scrape_timeout"].removesuffix("s")) < int(timing["scrape_interval"].removesuffix("s"))
    for job in jobs[:-1]:
        (discovery,) = job["dns_sd_configs"]
        assert set(discovery) == {"names", "type", "port", "refresh_interval"}
        assert discovery["type"] == "A"
        assert job["relabel_configs"] == [{"source_labels": ["__meta_dns_name"], "target_label": "instance"}]


def test_prometheus_asks_the_ports_that_answer() -> None:
    """RabbitMQ's is the one of its configuration, for a plugin that is enabled; HAProxy's is the one of its own."""
    ports = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in loaded(PROMETHEUS)["scrape_configs"][:-1]}
    broker = (ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text()
    assert f"\nprometheus.tcp.port = {ports['rabbitmq']}\n" in broker
    assert "rabbitmq_prometheus" in (ROOT / "deploy" / "rabbitmq" / "enabled_plugins").read_text()
    assert f"bind :{ports['haproxy']}\n" in (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()


def test_grafanas_source_is_prometheus() -> None:
    """One source, the default one, under a fixed uid for dashboards to name, at the service's address, as often as it asks."""
    provisioned = loaded(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")
    assert provisioned["apiVersion"] == 1
    (source,) = provisioned["datasources"]
    assert (source["type"], source["uid"], source["isDefault"], source["access"]) == ("prometheus", "prometheus", True, "proxy")
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services()
    assert source["jsonData"]["timeInterval"] == loaded(PROMETHEUS)["global"]["scrape_interval"]


def test_grafanas_dashboards_are_where_it_looks() -> None:
    """The folder of the provider is one that Compose mounts, from one that a clean clone has; what is in it is JSON."""
    provisioned = loaded(GRAFANA / "provisioning" / "dashboards" / "tidegate.yml")
    assert provisioned["apiVersion"] == 1
    (provider,) = provisioned["providers"]
    assert provider["type"] == "file"
    mount = mounted(services()["grafana"])[provider["options"]["path"]]
    files = tracked(ROOT / mount["source"])
    assert files
    assert {Path(path).suffix for path in files} <= {".json", ""}


def test_grafana_finds_what_is_provisioned() -> None:
    """Both folders of the provisioning are mounted where Grafana looks, and have nothing in them but YAML."""
    mounts = mounted(services()["grafana"])
    for kind in ("datasources", "dashboards"):
        source = mounts[f"/etc/grafana/provisioning/{kind}"]["source"]
        assert {Path(path).suffix for path in tracked(ROOT / source)} == {".yml"}

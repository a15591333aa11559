"""docker-compose.yml: all that it names exists and means what the code takes; each node starts with the settings that it is given."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from broker.address import AmqpAddress
from broker.topology import log_arguments
from node.config import Settings, load
from tests.support.compose import (
    brokers,
    compose,
    make_secrets,
    mounted,
    node_environment,
    nodes,
    seconds,
    services,
    variables,
)
from tests.support.dockerfile import stages, tracked
from tests.support.nodes import ROOT

PUBLISHED = {"haproxy": 8000, "prometheus": 9090, "grafana": 3000}
DRAIN_BEHIND_S = 4  # docs/operations.md: a drain takes this much longer than TIDEGATE_DRAIN_SECONDS
OWNERS = {"nodes": "10001", "brokers": "999", "grafana": "472"}  # of the last, the user in its image
ALL = services()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the service `secrets` makes."""
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets(folder)
    return folder


def settings_of(name: str, secrets: Path, **given: str) -> Settings:
    """The settings of a node. Raises `ConfigurationError` where it would not start with them."""
    return load({}, node_environment(nodes(given)[name], secrets), serving=True)


def networks(name: str) -> set[str]:
    return set(ALL[name].get("networks", []))


# What it names


@pytest.mark.parametrize(("kind", "key"), [("volumes", "volumes"), ("networks", "networks"), ("configs", "configs")])
def test_every_volume_network_and_file_is_there_and_used(kind: str, key: str) -> None:
    """What a service mounts or joins is declared below, and nothing is declared that no service has."""
    used: set[str] = set()
    for service in ALL.values():
        for one in service.get(key, []):
            if isinstance(one, str):
                used.add(one)
            elif one.get("type", "volume") == "volume":
                used.add(one["source"])
    assert used == set(compose()[kind])


def test_every_file_is_in_a_clean_clone() -> None:
    """Each file and folder that is mounted is under git, so that it is there after `git clone`."""
    files = {one["file"] for one in compose()["configs"].values()}
    folders = {one["source"] for service in ALL.values() for one in service.get("volumes", []) if one["type"] == "bind"}
    assert files <= set(tracked())
    for folder in folders:
        assert tracked(ROOT / folder), folder


def test_every_image_is_pinned_or_built_here() -> None:
    """A foreign image has the three numbers of its version; one of ours is built from a stage that exists, by one service."""
    built = {service["image"]: service["build"] for service in ALL.values() if "build" in service}
    for name, service in ALL.items():
        if service["image"] in built:
            build = built[service["image"]]
            assert build["target"] in stages()
            assert (ROOT / build["context"] / "Dockerfile").is_file()
            assert ("build" in service) != (service.get("pull_policy") == "never"), name
        else:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-alpine)?", service["image"]), name
    assert len({service["image"] for service in brokers().values()}) == 1


def test_who_waits_waits_for_something_that_comes() -> None:
    """Whoever must be healthy is asked whether he is, and whoever must have ended ends; an image is built before it is run."""
    for name, service in ALL.items():
        for other, wanted in service.get("depends_on", {}).items():
            match wanted["condition"]:
                case "service_healthy":
                    assert "test" in ALL[other]["healthcheck"], f"{name} waits for {other}"
                case "service_completed_successfully":
                    assert ALL[other]["restart"] == "no", f"{name} waits for {other}"
                case condition:
                    pytest.fail(f"{name} waits for {other} to be {condition}")
        if service.get("pull_policy") == "never":
            builders = {other for other in service["depends_on"] if "build" in ALL[other]}
            assert any(ALL[other]["image"] == service["image"] for other in builders), name


def test_only_three_ports_are_published_on_loopback() -> None:
    """The chat, Prometheus and Grafana, for this machine alone unless it is said otherwise; an internal network would not publish them."""
    for name, service in ALL.items():
        ports = service.get("ports", [])
        assert len(ports) == (name in PUBLISHED), name
        for port in ports:
            address, _, inside = port.split(":")
            assert (address, int(inside)) == ("127.0.0.1", PUBLISHED[name])
            assert any(not (compose()["networks"][one] or {}).get("internal") for one in networks(name))
    assert services({"PUBLISH": "0.0.0.0", "CHAT_PORT": "80"})["haproxy"]["ports"] == ["0.0.0.0:80:8000"]


def test_what_may_be_set_is_documented() -> None:
    """Every variable of the file is in docs/deployment.md."""
    page = (ROOT / "docs" / "deployment.md").read_text()
    assert {name for name in variables() if f"`{name}`" not in page} == set()


# How it runs


@pytest.mark.parametrize("name", ALL)
def test_every_service_is_confined(name: str) -> None:
    """No right that it does not need, nothing to write on but what is named, a bound on what it takes, and time to end."""
    service = ALL[name]
    assert service["init"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= ({"CHOWN", "DAC_OVERRIDE"} if name == "secrets" else set())
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] == ("no" if name in ("secrets", "load") else "unless-stopped")
    assert seconds(service["stop_grace_period"]) >= 10
    assert "privileged" not in service
    assert service.get("network_mode", "none") == "none"
    for volume in service.get("volumes", []):
        writes = volume["type"] == "volume" and (volume["source"].endswith("-data") or name == "secrets")
        assert volume.get("read_only", False) is not writes, volume["target"]


def test_data_is_shared_by_nobody() -> None:
    """Every node, broker and store has a volume of its own, where its image or its settings have the data."""
    owned: dict[str, str] = {}
    for name, service in ALL.items():
        for path, volume in mounted(service).items():
            if volume["source"].endswith("-data"):
                assert volume["source"] == f"{name}-data"
                owned[name] = path
    expected = dict.fromkeys(nodes(), "/var/lib/tidegate") | dict.fromkeys(brokers(), "/var/lib/rabbitmq")
    assert owned == expected | {"prometheus": "/prometheus", "grafana": "/var/lib/grafana"}
    assert "--storage.tsdb.path=/prometheus" in ALL["prometheus"]["command"]


@pytest.mark.parametrize("name", nodes())
def test_a_node_starts_with_what_it_is_given(name: str, secrets: Path) -> None:
    """Its settings load without a problem: its own name, all brokers, the key, the dev issuer off; it may drain before it is killed."""
    settings = settings_of(name, secrets)
    assert settings.node_id == name
    assert isinstance(settings.log, AmqpAddress)
    assert [urlsplit(url).hostname for url in settings.log.urls] == list(brokers())
    assert settings.jwt_secret == {None: (secrets / "node" / "jwt-secret").read_text()}
    assert not settings.dev_issuer
    assert (settings.host, str(settings.data)) == ("0.0.0.0", "/var/lib/tidegate")
    service = ALL[name]
    assert seconds(service["stop_grace_period"]) > settings.drain_seconds + DRAIN_BEHIND_S
    assert service["ulimits"]["nofile"]["hard"] > settings.max_sessions
    assert set(service["depends_on"]) == {"secrets", *brokers()}


def test_nodes_agree(secrets: Path) -> None:
    """But for its name each node has the same settings."""
    shown = [settings_of(name, secrets).shown() for name in nodes()]
    assert len(shown) == 3
    assert all(one | {"node_id": ""} == shown[0] | {"node_id": ""} for one in shown)


def test_the_dev_issuer_is_one_variable(secrets: Path) -> None:
    """`TIDEGATE_DEV_ISSUER=1 docker compose up` turns it on, on every node, and the proxy passes it on."""
    assert all(settings_of(name, secrets, TIDEGATE_DEV_ISSUER="1").dev_issuer for name in nodes())
    assert "/dev/token" not in (ROOT / compose()["configs"]["haproxy-cfg"]["file"]).read_text()


# Who reads which secret


def test_every_path_of_a_secret_leads_to_one(secrets: Path) -> None:
    """Whatever names a secret, a variable or a file, names one that is made, in a volume that is mounted there."""
    named = []
    for name, service in ALL.items():
        texts = [*service.get("environment", {}).values(), *service.get("command", [])]
        texts += [(ROOT / compose()["configs"][one["source"]]["file"]).read_text() for one in service.get("configs", [])]
        for path in re.findall(r"/run/secrets/[\w/.-]+", "\n".join(texts)):
            place = "/".join(path.split("/")[:4])
            folder = secrets / mounted(service)[place]["source"].removeprefix("secrets-")
            assert (folder / path.removeprefix(place).lstrip("/")).exists(), f"{name}: {path}"
            named.append(path)
    assert len(set(named)) == 5
    for broker in brokers().values():
        assert (secrets / "rabbitmq" / ".erlang.cookie").exists()
        assert mounted(broker)[broker["environment"]["HOME"]]["source"] == "secrets-rabbitmq"


def test_secrets_belong_to_who_reads_them() -> None:
    """Each folder of secrets goes to the user that its readers run as, and nobody else mounts it."""
    owners = dict(flag.split("=")[1:] for flag in ALL["secrets"]["command"] if flag.startswith("--owner="))
    assert owners == {"node": OWNERS["nodes"], "rabbitmq": OWNERS["brokers"], "grafana": OWNERS["grafana"]}
    assert {stages()[name].last("USER").rest for name in ("node", "load")} == {f"{OWNERS['nodes']}:{OWNERS['nodes']}"}
    assert {service["user"] for service in brokers().values()} == {f"{OWNERS['brokers']}:{OWNERS['brokers']}"}
    readers: dict[str, set[str]] = {}
    for name, service in ALL.items():
        for volume in mounted(service).values():
            if volume["source"].startswith("secrets-") and name != "secrets":
                readers.setdefault(volume["source"], set()).add(name)
                assert service["depends_on"]["secrets"] == {"condition": "service_completed_successfully"}
    assert readers == {
        "secrets-node": {*nodes(), "load"},
        "secrets-rabbitmq": set(brokers()),
        "secrets-grafana": {"grafana"},
    }


def test_tidegates_user_is_the_brokers(secrets: Path) -> None:
    """The login and the vhost of the nodes are those of the definitions, which have no other user, and none with a tag."""
    definitions = json.loads((secrets / "rabbitmq" / "definitions.json").read_text())
    url = urlsplit((secrets / "node" / "log").read_text())
    vhost = url.path.removeprefix("/")
    assert [(user["name"], user["tags"]) for user in definitions["users"]] == [(url.username, [])]
    assert [one["name"] for one in definitions["vhosts"]] == [vhost]
    assert [(one["user"], one["vhost"]) for one in definitions["permissions"]] == [(url.username, vhost)]


# Who speaks with whom


def spoken_to() -> list[tuple[str, str, int]]:
    """Every pair of services of which one connects to the other, with the port."""
    haproxy = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    found = [("haproxy", host, int(port)) for host, port in re.findall(r"(?m)^ +server \S+ ([a-z0-9]+):(\d+)", haproxy)]
    found += [(node, broker, 5672) for node in nodes() for broker in brokers()]
    found += [(broker, other, 25672) for broker in brokers() for other in brokers() if other != broker]
    found += [("grafana", "prometheus", 9090), ("load", "haproxy", 8000)]
    found += [("prometheus", host, port) for host, port in scraped()]
    return found


def scraped() -> list[tuple[str, int]]:
    """Whom Prometheus asks, and at which port."""
    jobs: list[dict[str, Any]] = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())["scrape_configs"]
    return [(host, one["port"]) for job in jobs for one in job.get("dns_sd_configs", []) for host in one["names"]]


@pytest.mark.parametrize(("who", "whom", "port"), spoken_to())
def test_who_speaks_with_whom_shares_a_network(who: str, whom: str, port: int) -> None:
    """Whoever is spoken to is a service, on a network of the speaker's."""
    assert networks(who) & networks(whom), port
    if whom in nodes():
        assert port == int(stages()["node"].environment["TIDEGATE_PORT"]) == int(stages()["node"].last("EXPOSE").rest)


def test_the_proxy_has_every_node_and_prometheus_everybody() -> None:
    """No node and no broker is left out where they are listed."""
    spoken = spoken_to()
    assert {whom for who, whom, _ in spoken if who == "haproxy"} == set(nodes())
    assert {whom for who, whom, _ in spoken if who == "prometheus"} == {*nodes(), *brokers(), "haproxy"}


def test_brokers_and_the_world_are_apart() -> None:
    """Each service is on the networks that it needs; those of the log and of metrics lead nowhere, so brokers reach nobody else."""
    internal = {name for name, network in compose()["networks"].items() if network.get("internal")}
    assert internal == {"log", "watch"}
    expected = {name: {"front", "log", "watch"} for name in nodes()} | dict.fromkeys(brokers(), internal)
    expected |= {"haproxy": {"front", "watch"}, "load": {"front"}, "secrets": set()}
    expected |= {name: {"watch", "published"} for name in ("prometheus", "grafana")}
    assert {name: networks(name) for name in ALL} == expected


def test_the_brokers_cluster_is_the_services() -> None:
    """The brokers that look for each other are the services, by their hostnames, and as many as a stream of the log has replicas."""
    lines = (ROOT / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text().splitlines()
    found = [line.partition(" = ")[2] for line in lines if line.startswith("cluster_formation.classic_config.nodes.")]
    assert found == [f"rabbit@{service['hostname']}" for service in brokers().values()]
    assert {name: service["hostname"] for name, service in brokers().items()} == {name: name for name in brokers()}
    assert f"cluster_formation.target_cluster_size_hint = {len(found)}" in lines
    assert len(found) == log_arguments()["x-initial-cluster-size"]


def test_health_is_asked_where_it_is_told() -> None:
    """Nodes are asked whether they are ready, by the image's own program; the proxy at the path and port of its own configuration."""
    for service in nodes().values():
        *command, path = service["healthcheck"]["test"]
        assert command == ["CMD", *stages()["node"].last("HEALTHCHECK").exec_form[:-1]]
        assert path == "/readyz"
    haproxy = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    asked = urlsplit(ALL["haproxy"]["healthcheck"]["test"][-1])
    assert f"bind :{asked.port}\n    monitor-uri {asked.path}\n" in haproxy
    assert f"bind :{PUBLISHED['haproxy']}\n" in haproxy


def test_the_load_test_takes_what_it_is_given(secrets: Path) -> None:
    """It runs only when it is asked for. Of its flags and variables it refuses none: only the one that is added here."""
    service = ALL["load"]
    assert {name: other["profiles"] for name, other in ALL.items() if "profiles" in other} == {"load": ["load"]}
    (place,) = mounted(service)
    given = {name: value.replace(place, str(secrets / "node")) for name, value in service["environment"].items()}
    command = [sys.executable, "-m", *stages()["load"].last("ENTRYPOINT").exec_form, *service["command"], "--ttl=0"]
    refused = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == "--ttl: takes seconds, 1 or more, got 0"
    assert "takes" not in "".join(refused.stderr.splitlines()[:-1])

"""The configurations of HAProxy in deploy/: the one that is documented and tested, with the names of their own servers."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from node.cli.haproxy import INSIDE, configuration, program
from tests.support.client import engine_url
from tests.support.http import async_http, failure
from tests.support.nodes import ROOT, Cluster
from tests.support.wait import wait_until

COMPOSE = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
LOOKED_UP = "resolvers dns resolve-prefer ipv4 init-addr none"
START_S = 10.0


def in_kubernetes() -> str:
    """The file in the ConfigMap of the proxy."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "proxy.yaml").read_text()))
    (map_,) = [one for one in documents if one["kind"] == "ConfigMap"]
    return str(map_["data"]["haproxy.cfg"])


def haproxy() -> str:
    found = program()
    assert found is not None, "these tests need HAProxy"
    return found


def test_compose_has_the_documented_one() -> None:
    """From `defaults` to the last server it is the text that docs/operations.md shows, for the nodes of Compose, each looked up by name.

    Of what asks for no token only metrics are refused here: `/dev/token` is 404 unless somebody has turned the dev issuer on.
    """
    nodes = {name: f"{name}:8001 {LOOKED_UP}" for name in ("n1", "n2", "n3")}
    assert configuration(bind=":8000", nodes=nodes, denied=["/metrics"]) in COMPOSE


def test_kubernetes_has_the_documented_one() -> None:
    """The same, for the pods of the StatefulSet; whatever asks for no token is refused."""
    pods = [f"tidegate-{number}" for number in range(3)]
    nodes = {pod: f'"{pod}.tidegate-nodes.${{NAMESPACE}}.svc.cluster.local:8001" {LOOKED_UP}' for pod in pods}
    assert configuration(bind=":8000", nodes=nodes, denied=INSIDE) in in_kubernetes()


def test_they_are_one_but_for_that() -> None:
    """What stands around it is the same in both."""

    def around(text: str) -> list[str]:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        return [line for line in lines if not line.startswith(("server ", "http-request deny"))]

    assert around(COMPOSE) == around(in_kubernetes())


@pytest.mark.haproxy
@pytest.mark.parametrize("text", [COMPOSE, in_kubernetes()], ids=["compose", "kubernetes"])
def test_haproxy_takes_them(tmp_path: Path, text: str) -> None:
    """`haproxy -c` has no complaint, not even a warning, also where no name can be looked up yet."""
    file = tmp_path / "haproxy.cfg"
    file.write_text(text)
    checked = subprocess.run(
        [haproxy(), "-c", "-f", str(file)],
        env=os.environ | {"NAMESPACE": "chat"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at this moment."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports


@contextmanager
def running(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """The proxy of Compose in front of these nodes: only its two ports and the nodes' addresses are others. URLs of both its faces."""
    chat, operations = free_ports(2)
    text, binds = re.subn(
        r"(?m)^    bind :8(\d+)$", lambda found: f"    bind 127.0.0.1:{chat if found[1] == '000' else operations}", COMPOSE
    )
    for node in cluster:
        text, servers = re.subn(rf"\b{node.id}:8001\b", f"127.0.0.1:{node.address[1]}", text)
        assert servers == 1
    assert binds == 2
    file = cluster.folder / "haproxy.cfg"
    file.write_text(text)
    with (cluster.folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([haproxy(), "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{chat}", f"http://127.0.0.1:{operations}"
        assert process.poll() is None, (cluster.folder / "haproxy.log").read_text()
    finally:
        process.kill()
        process.wait()


async def status(http: httpx.AsyncClient, url: str) -> int:
    """What is answered; 0 while nobody listens."""
    try:
        return (await http.get(url)).status_code
    except httpx.TransportError:
        return 0


async def up(http: httpx.AsyncClient, url: str) -> set[str]:
    """The nodes that the proxy counts as up, by its own metrics."""
    lines = (await http.get(f"{url}/metrics")).text
    return set(re.findall(r'(?m)^haproxy_server_status\{proxy="nodes",server="(\w+)",state="UP"\} 1$', lines))


@pytest.mark.anyio
@pytest.mark.haproxy
async def test_the_proxy_of_compose_serves(tmp_path: Path) -> None:
    """Newcomers come to every node and stay there; metrics are its own and inside; what is gone is seen by Prometheus too."""
    with Cluster(tmp_path) as cluster, running(cluster) as (chat, operations):
        async with async_http() as http:

            async def is_up(*names: str) -> bool:
                return await up(http, operations) == set(names)

            async def listens() -> bool:
                return await status(http, f"{operations}/healthz") == 200

            await wait_until(listens, START_S, "it listens")
            await wait_until(lambda: is_up("n1", "n2", "n3"), START_S, "all nodes are up")
            opened = [await http.get(engine_url(chat, "polling")) for _ in range(6)]
            sids = [re.findall(r'"sid":"([^"]+)"', answer.text)[0] for answer in opened]
            assert {sid.partition(".")[0] for sid in sids} == {"n1", "n2", "n3"}
            failure(await http.get(engine_url(chat, "polling", sid="n2.stranger")), 400, "unknown_sid")
            assert await status(http, f"{chat}/metrics") == 403
            assert await status(http, f"{chat}/stats") == 404
            failure(await http.post(f"{chat}/dev/token", json={"user": "ann"}), 404, "not_found")
            assert await status(http, f"{operations}/stats") == 200
            cluster[1].kill()
            await wait_until(lambda: is_up("n1", "n3"), START_S, "n2 is seen to be gone")

"""A real Prometheus for tests, with the repository's rules, at a pace at which an hour passes in minutes."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
import yaml

from monitoring.known import RULES
from monitoring.pace import faster
from node.cli.monitor import arguments, configuration, program
from tests.support.held_port import HOST, HeldPort
from tests.support.http import async_http, fetch
from tests.support.leash import LeashedProcess
from tests.support.wait import block_until

START_S = 30.0
EVERY_S = 0.5  # less often than the pace would have it: an answer has to come in that time, on a busy machine too
Series = list[dict[str, Any]]


class Firing(NamedTuple):
    """An alert that fires, and for which instance; empty where it is for a whole job."""

    alert: str
    instance: str


class Prometheus:
    """`nodes` and `others` are `host:port` by the name of the instance, the latter by job too; it is `pace` times as fast as usual."""

    def __init__(self, folder: Path, nodes: Mapping[str, str], others: Mapping[tuple[str, str], str], *, pace: float) -> None:
        folder.mkdir()
        self._port = HeldPort()
        self.url = f"http://{HOST}:{self._port}"
        rules = folder / "rules"
        rules.mkdir()
        for file in RULES.glob("*.yml"):
            (rules / file.name).write_text(faster(file.read_text(), pace))
        settings = yaml.safe_load(configuration(nodes, rules=rules, every_s=EVERY_S))
        for (job, instance), address in others.items():
            static = [{"targets": [address], "labels": {"instance": instance}}]
            settings["scrape_configs"].append({"job_name": job, "static_configs": static})
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(settings))
        self._output = folder / "prometheus.out"
        flags = arguments(file, folder / "data", f"{HOST}:{self._port}")
        self._process = LeashedProcess([program(), *flags], dict(os.environ), self._output)
        self._api = async_http(base_url=f"{self.url}/api/v1", timeout=10)

    def __enter__(self) -> Self:
        block_until(self._ready, START_S, "Prometheus is ready")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.running, self.output
        self._process.kill()
        self._port.release()

    @property
    def output(self) -> str:
        """What it has complained of."""
        return self._output.read_text()

    async def instant(self, query: str) -> Series:
        """The series of a query now."""
        data = await self.ask("query", query=query)
        assert data["resultType"] == "vector", data
        found: Series = data["result"]
        return found

    async def over(self, query: str, start: float, end: float, step_s: float) -> Series:
        """The series of a query over a time (s of the epoch)."""
        data = await self.ask("query_range", query=query, start=str(start), end=str(end), step=str(step_s))
        assert data["resultType"] == "matrix", data
        found: Series = data["result"]
        return found

    async def firing(self) -> set[Firing]:
        """The alerts that fire now."""
        alerts = (await self.ask("alerts"))["alerts"]
        labels = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
        return {Firing(one["alertname"], one.get("instance", "")) for one in labels}

    async def ask(self, path: str, **parameters: str) -> Any:
        """What it answers; a query that it refuses fails with its words."""
        answer = (await self._api.get(path, params=parameters)).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def _ready(self) -> bool:
        assert self._process.running, self.output
        try:
            return fetch(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False


class Watch:
    """Everything that fired, as long as it runs."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.seen: set[Firing] = set()
        self.now: set[Firing] = set()

    def begin(self) -> None:
        """Forget what was seen so far."""
        self.seen = set(self.now)

    async def run(self) -> None:
        """Look at each judgement, for ever."""
        while True:
            self.now = await self._prometheus.firing()
            self.seen |= self.now
            await asyncio.sleep(EVERY_S / 2)

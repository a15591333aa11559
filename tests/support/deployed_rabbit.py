"""A real RabbitMQ with the files of deploy/rabbitmq, as Compose gives them to its brokers: alone, on loopback, on ports of its own."""

import re
from pathlib import Path

from tests.support.compose import brokers
from tests.support.erlang import ErlangError, PortMapper
from tests.support.held_port import HOST, HeldPort
from tests.support.nodes import ROOT
from tests.support.rabbit import START_S, Rabbit
from tests.support.wait import block_until

FILES = ROOT / "deploy" / "rabbitmq"
_CONFIGURATION = "RABBITMQ_CONFIG_FILE"


def _kernel() -> dict[str, str]:
    """What the services give Erlang on its command line."""
    words = brokers()["rabbit1"]["environment"]["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"].split()
    assert words[::3] == ["-kernel"] * (len(words) // 3)
    return dict(zip(words[1::3], words[2::3], strict=True))


class DeployedRabbit(Rabbit):
    """One broker of the cluster, without the others. `secrets` is what deploy/make_secrets.py has made for brokers.

    Changed in its configuration: who is in the cluster, where the definitions are, and, since several run on one machine, the ports.
    """

    def __init__(self, folder: Path, secrets: Path) -> None:
        folder.mkdir(parents=True)
        self._secrets = secrets
        mapper = PortMapper(folder)
        mapper.cookie = (secrets / ".erlang.cookie").read_text()
        enabled = (FILES / "enabled_plugins").read_text()
        super().__init__(folder, mapper=mapper, kernel=_kernel(), plugins=dict.fromkeys(re.findall(r"\w+", enabled), "[]"))
        self._mapper, self._owns_mapper = mapper, True
        self._metrics_port = HeldPort()
        (folder / "advanced.config").write_text("[].\n")
        (folder / "enabled_plugins").write_text(enabled)
        (folder / "deployed.conf").write_text(self._configuration())

    @property
    def metrics_url(self) -> str:
        return f"http://{HOST}:{self._metrics_port.number}/metrics"

    def close(self) -> None:
        """End the process, and give the ports back. Idempotent."""
        super().close()
        self._metrics_port.release()

    @property
    def _environment(self) -> dict[str, str]:
        own = {_CONFIGURATION: str(self._folder / "deployed.conf"), "HOME": str(self._secrets)}
        return super()._environment | own

    def wait_ready(self) -> None:
        """Block until it runs. It is asked from inside: guest, by whom other brokers of the tests are asked, there is none."""
        block_until(self._runs, START_S, f"{self.node} runs")

    def _runs(self) -> bool:
        assert not self.fault(), self.fault()
        try:
            return self.erlang("rabbit:is_running()") == "true"
        except ErlangError:
            return False

    def _configuration(self) -> str:
        text = (FILES / "rabbitmq.conf").read_text()
        for pattern, replaced, times in (
            (r"(?m)^(cluster_formation\.classic_config\.nodes\.1 = ).*$", rf"\g<1>{self.node}", 1),
            (r"(?m)^cluster_formation\.classic_config\.nodes\.[23] = .*\n", "", 2),
            (r"(?m)^(load_definitions = ).*$", rf"\g<1>{self._secrets / 'definitions.json'}", 1),
            (r"(?m)^listeners\.tcp\.default = 5672$", f"listeners.tcp.default = {HOST}:{self.port}", 1),
            (
                r"(?m)^prometheus\.tcp\.port = 15692$",
                f"prometheus.tcp.ip = {HOST}\nprometheus.tcp.port = {self._metrics_port}",
                1,
            ),
        ):
            text, count = re.subn(pattern, replaced, text)
            assert count == times, pattern
        return text

"""Real RabbitMQ brokers for tests: private, on loopback, started, killed, frozen and started again."""

import itertools
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from tests.support.amqp_login import takes_clients
from tests.support.certificates import Certificates
from tests.support.erlang import PortMapper, evaluate
from tests.support.held_port import HOST, HeldPort
from tests.support.leash import LeashedProcess
from tests.support.rabbit_home import PRELOAD, make_home
from tests.support.wait import block_until

START_S = 90.0  # until a broker takes clients, on a machine that is busy with other tests
STOP_S = 30.0
_SIGNAL_S = 5.0
_CTL_S = 60.0
_ALL = ".*"
_numbers = itertools.count(1)  # of vhosts and users: unique in a cluster too
GUEST = "guest:guest"


class Rabbit:
    """One broker process. Its folder, node, cookie, port mapper and ports are its own, and stay when it is started again.

    `settings` are those of Erlang's application `rabbit` and `kernel` those of its kernel, as Erlang terms. With `tls` it listens for amqps
    as well, and wants a client's certificate. The brokers of a cluster share a `mapper`. As a context manager it is started and ready, ends
    with the block, and fails then if it has ended by itself. On two free cores it boots in 3 s; idle it takes 0.3% of one, and 140 MiB.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "rabbit",
        settings: Mapping[str, str] | None = None,
        kernel: Mapping[str, str] | None = None,
        tls: Certificates | None = None,
        mapper: PortMapper | None = None,
        plugins: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.node = f"{name}@localhost"
        self._folder = folder
        self._plugins = dict(plugins or {})
        self._home = make_home(folder / "home", list(self._plugins))
        self._mapper = mapper or PortMapper(folder)
        self._owns_mapper = mapper is None
        self._port, self._tls_port, self._erlang_port = HeldPort(), HeldPort(), HeldPort()
        self._kernel = {"inet_dist_use_interface": "{127,0,0,1}"} | dict(kernel or {})
        self._process: LeashedProcess | None = None
        self._expected_end = self._frozen = self._was_frozen = self._has_streams = False
        own = {"tcp_listeners": f'[{{"{HOST}",{self._port}}}]', "loopback_users": "[]"}
        if tls:
            own |= {"ssl_listeners": f'[{{"{HOST}",{self._tls_port}}}]', "ssl_options": _tls_options(tls)}
        self._write_files(own | dict(settings or {}))

    # Where it is

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def tls_port(self) -> int:
        return self._tls_port.number

    @property
    def url(self) -> str:
        return self.url_for()

    def url_for(self, vhost: str = "/", login: str = GUEST, *, tls: bool = False) -> str:
        """The URL of a vhost; `login` is `user:password`."""
        if tls:
            return amqp_url([self.tls_port], vhost, login, scheme="amqps")
        return amqp_url([self.port], vhost, login)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def frozen(self) -> bool:
        return self._frozen

    @property
    def was_frozen(self) -> bool:
        """Whether it was, at any time since its start."""
        return self._was_frozen

    def log_text(self) -> str:
        """What the broker has logged, and printed besides."""
        files = [self._folder / "broker.log", self._folder / "broker.out"]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    # Its life

    def start(self) -> None:
        """Start the process on the ports that it has; returns at once."""
        assert not self.running
        for port in (self._port, self._tls_port, self._erlang_port):
            block_until(lambda port=port: port.free, STOP_S, f"port {port} is free")  # type: ignore[misc]
        self._expected_end = self._frozen = self._was_frozen = False
        command = [str(self._home / "sbin" / "rabbitmq-server")]
        self._process = LeashedProcess(command, self._environment | {"ERL_AFLAGS": PRELOAD}, self._folder / "broker.out")

    def wait_ready(self) -> None:
        """Block until it takes clients: guest gets into the vhost `/`. Streams that it had have their leaders half a second later."""
        block_until(self._takes_clients, START_S, f"{self.node} takes clients")
        if not self._has_streams and self._owns_mapper:  # a cluster does it when it is whole
            self.begin_streams()
            self.write_down()

    @property
    def serves_streams(self) -> bool:
        """Whether the leaders of all streams run and answer, after a restart: before that they take nothing, and give nothing."""
        leaders = "[amqqueue:get_pid(Q) || Q <- rabbit_amqqueue:list_by_type(rabbit_stream_queue)]"
        silent = f"[P || P <- {leaders}, (catch element(1, sys:get_status(P, 50))) =/= status]"
        return self.erlang(f"{silent} =:= []") == "true"

    def kill(self) -> None:
        """`kill -9`, and wait until the process is gone."""
        assert self._process is not None
        self._expected_end, self._frozen = True, False
        self._process.kill()

    def stop(self) -> None:
        """SIGTERM, and wait until the broker has ended in order."""
        assert self._process is not None
        self._expected_end = True
        self._process.signal(signal.SIGTERM)
        self._process.wait(STOP_S)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open and it does nothing, until `thaw`."""
        self._signal(signal.SIGSTOP, "T")
        self._frozen = self._was_frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT, "RSD")
        self._frozen = False

    def close(self) -> None:
        """End the process, whatever it does, and give the ports back. Idempotent."""
        if self._process is not None:
            self.kill()
        if self._owns_mapper:
            self._mapper.close()
        for port in (self._port, self._tls_port, self._erlang_port):
            port.release()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        fault = self.fault()
        self.close()
        assert not fault, fault

    def fault(self) -> str:
        """That it has ended by itself, with what it said last; empty where it has not."""
        ended = self._process is not None and not self._process.running and not self._expected_end
        return f"{self.node} ended by itself:\n{self._last_words()}" if ended else ""

    # What is in it

    def fresh_vhost(self) -> str:
        """The name of a new vhost, with nothing in it, in which guest may do everything. Some 50 ms when it is asked for, and as much at
        each start of the broker from then on: 60 made beforehand would double its boot.
        """
        vhost = f"v{next(_numbers)}"
        self.erlang(f'rabbit_vhost:add(<<"{vhost}">>, <<"tests">>)')
        self.permit("guest", vhost, configure=_ALL, write=_ALL, read=_ALL)
        return vhost

    def drop_vhost(self, vhost: str) -> None:
        """Delete a vhost with all that is in it; its connections are closed."""
        self.erlang(f'rabbit_vhost:delete(<<"{vhost}">>, <<"tests">>)')

    def fresh_user(self, vhost: str, *, configure: str = "", write: str = "", read: str = "") -> str:
        """The login of a new user who may do in this vhost what the patterns match, and nothing elsewhere."""
        name, password = f"u{next(_numbers)}", secrets.token_urlsafe(12)
        self.erlang(f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"tests">>)')
        self.permit(name, vhost, configure=configure, write=write, read=read)
        return f"{name}:{password}"

    def permit(self, user: str, vhost: str, *, configure: str, write: str, read: str) -> None:
        """Let a user do in a vhost what these patterns match, instead of what he might before."""
        texts = ", ".join(f'<<"{text}">>' for text in (user, vhost, configure, write, read, "tests"))
        self.erlang(f"rabbit_auth_backend_internal:set_permissions({texts})")

    def begin_streams(self) -> None:
        """Have a stream for a moment. RabbitMQ starts the coordinator of all streams with the first one, and Ra writes the names of its
        members down half a second later: who is killed in between forgets the coordinator, and with it every stream, for good. So says
        3.10.8: "home node of durable queue is down or inaccessible", whenever one asks. The first stream of a test is not to be the first.
        """
        vhost = self.fresh_vhost()
        queue = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"first">>)'
        self.erlang(
            f'rabbit_amqqueue:declare({queue}, true, false, [{{<<"x-queue-type">>, longstr, <<"stream">>}}], none, <<"tests">>)'
        )
        self.drop_vhost(vhost)
        self._has_streams = True

    def write_down(self) -> None:
        """What Ra has not written yet of the names of its members. See `begin_streams`."""
        self.erlang("[dets:sync(Table) || Table <- dets:all()]")

    def erlang(self, expression: str) -> str:
        """The value of an Erlang expression in the broker, as Erlang writes it. Some 5 ms, where `ctl` takes a second."""
        return evaluate(expression, port=self._erlang_port.number, cookie=self._mapper.cookie)

    def ctl(self, *arguments: str, tool: str = "rabbitmqctl") -> str:
        """What one of RabbitMQ's commands prints about this broker. Raises `AssertionError` with its complaint where it fails."""
        command = [str(self._home / "sbin" / tool), "--quiet", "--node", self.node, *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=_CTL_S, check=False)
        assert done.returncode == 0, f"{tool} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    # How it is started

    @property
    def _environment(self) -> dict[str, str]:
        """All that the broker and its commands get: nothing of the machine's own RabbitMQ, or of a developer's."""
        kernel = " ".join(f"-kernel {name} {value}" for name, value in self._kernel.items())
        return self._mapper.environment | {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the broker: its pid is ours to kill and to freeze
            "RABBITMQ_SCRIPTS_DIR": str(self._home / "sbin"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._erlang_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RABBITMQ_LOGS": str(self._folder / "broker.log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "none"),
            "RABBITMQ_CONFIG_FILES": str(self._folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-start_epmd false {kernel}",
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false -dist_listen false",
        }

    def _write_files(self, settings: Mapping[str, str]) -> None:
        terms = ",\n  ".join(f"{{{name}, {value}}}" for name, value in settings.items())
        applications = [f"{{rabbit, [\n  {terms}\n]}}", *(f"{{{name}, {value}}}" for name, value in self._plugins.items())]
        (self._folder / "advanced.config").write_text(f"[{', '.join(applications)}].\n")
        (self._folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        cookie = self._folder / ".erlang.cookie"
        cookie.write_text(self._mapper.cookie)
        cookie.chmod(0o400)

    def _takes_clients(self) -> bool:
        assert not self.fault(), self.fault()
        return takes_clients(self.port)

    def _signal(self, number: signal.Signals, states: str) -> None:
        assert self._process is not None
        self._process.signal(number)
        status = Path(f"/proc/{self.pid}/stat")
        block_until(lambda: status.read_text().rpartition(") ")[2][0] in states, _SIGNAL_S, f"{self.node} is in {states}")

    def _last_words(self) -> str:
        return self.log_text()[-4_000:]


def amqp_url(ports: Sequence[int], vhost: str, login: str, *, scheme: str = "amqp") -> str:
    """A URL with one or more hosts, as `TIDEGATE_LOG` takes it."""
    hosts = ",".join(f"{HOST}:{port}" for port in ports)
    return f"{scheme}://{login}@{hosts}/{'' if vhost == '/' else quote(vhost, safe='')}"


def _tls_options(tls: Certificates) -> str:
    """Clients have to show a certificate of the same authority."""
    files = {"cacertfile": tls.authority, "certfile": tls.server.certificate, "keyfile": tls.server.key}
    named = ", ".join(f'{{{name}, "{path}"}}' for name, path in files.items())
    return f"[{named}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, true}}]"

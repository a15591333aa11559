"""Three real RabbitMQ brokers as one cluster, whose members are killed, frozen and started again one by one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.erlang import ErlangError, PortMapper
from tests.support.rabbit import GUEST, START_S, Rabbit, amqp_url
from tests.support.wait import Late, block_until

_STREAM_S = 60.0
_REJOIN_S = 8.0
#: A broker that hangs is given up after 5 to 6 s, not after a minute; one that is not there is not waited for.
_KERNEL = {"net_ticktime": "5", "net_setuptime": "1"}
#: Who comes back after that is in a cluster of his own until he is restarted. This one restarts him: in 15 of 16 trials, within 2 s;
#: `pause_minority` in 3 of 8, since a broker that is thawed hears of the loss of the others and of their return in one moment.
_SETTINGS = {"cluster_partition_handling": "autoheal"}
_RUNNING = "length(try rabbit_nodes:list_running() catch error:undef -> rabbit_nodes:all_running() end)"
_WHOLE = f"{{{_RUNNING}, rabbit_node_monitor:partitions(), rabbit:is_running()}}"


class RabbitCluster:
    """Brokers `rabbit1`, `rabbit2`, … below one folder. Nothing of them is shared with other brokers.

    As a context manager it is started and whole, ends with the block, and fails then if a broker has ended by itself.
    """

    def __init__(self, folder: Path, size: int = 3, *, settings: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._mapper = PortMapper(folder)
        self.brokers: list[Rabbit] = []
        for number in range(1, size + 1):
            name = f"rabbit{number}"
            joins = {"cluster_nodes": f"{{[{self[0].node}], disc}}"} if self.brokers else {}
            own = _SETTINGS | joins | dict(settings or {})
            self.brokers.append(Rabbit(folder / name, name=name, settings=own, kernel=_KERNEL, mapper=self._mapper))

    def __iter__(self) -> Iterator[Rabbit]:
        return iter(self.brokers)

    def __getitem__(self, place: int) -> Rabbit:
        return self.brokers[place]

    @property
    def url(self) -> str:
        return self.url_for()

    def url_for(self, vhost: str = "/", login: str = GUEST) -> str:
        """The URL of a vhost, with every broker's address in it, separated by commas."""
        return amqp_url([broker.port for broker in self], vhost, login)

    @property
    def awake(self) -> Rabbit:
        """A broker that can be asked: the first that runs and is not frozen."""
        return next(broker for broker in self if broker.running and not broker.frozen)

    def fresh_vhost(self) -> str:
        """The name of a new vhost, with nothing in it, in which guest may do everything."""
        return self.awake.fresh_vhost()

    def start(self) -> None:
        """Start all and wait until they are one cluster. The first starts alone: two that know of nobody would each found one."""
        first, *others = self
        first.start()
        first.wait_ready()
        for broker in others:
            broker.start()
        self.wait_whole()
        first.begin_streams()
        for broker in self:
            broker.write_down()

    def wait_whole(self, limit_s: float = START_S) -> None:
        """Block until every broker takes clients and sees all the others. Raises `Late`."""
        for broker in self:
            broker.wait_ready()
        whole = f"{{{len(self.brokers)},[],true}}"
        block_until(lambda: all(_asked(broker, _WHOLE) == whole for broker in self), limit_s, "the cluster is whole")

    def mend(self) -> None:
        """Thaw who is frozen, start who does not run, start anew who stays apart after he was frozen; wait until the cluster is whole."""
        for broker in self:
            if broker.frozen:
                broker.thaw()
            if not broker.running:
                broker.start()
        try:
            self.wait_whole(_REJOIN_S if any(broker.was_frozen for broker in self) else START_S)
        except Late:
            for broker in self:
                if broker.was_frozen:
                    broker.kill()
                    broker.start()
            self.wait_whole()

    def leader_of(self, queue: str, vhost: str = "/") -> Rabbit:
        """Block until a broker that can be asked leads this stream; returns it."""
        found: list[Rabbit] = []

        def led() -> bool:
            named = _asked(self.awake, _info(queue, vhost, "leader"))
            found[:] = [broker for broker in self if broker.node == named and broker.running and not broker.frozen]
            return bool(found)

        block_until(led, _STREAM_S, f"{queue} has a leader")
        return found[0]

    def not_replicated(self, vhost: str = "/") -> list[str]:
        """The streams of a vhost of which not every broker runs a replica, or all that is known is that this cannot be said now (`?`).

        A broker that was started takes clients some seconds before its replicas run. Till then the loss of another may be the loss of two
        replicas: such a stream takes nothing until that one is back.
        """
        streams = f'[Q || Q <- rabbit_amqqueue:list_by_type(rabbit_stream_queue), amqqueue:get_vhost(Q) =:= <<"{vhost}">>]'
        online = "length(proplists:get_value(online, rabbit_amqqueue:info(Q, [online])))"
        name = "binary_to_list(element(4, amqqueue:get_name(Q)))"
        found = _asked(self.awake, f'lists:flatten([{name} ++ " " || Q <- {streams}, {online} < {len(self.brokers)}])')
        return [] if found == "[]" else found.strip('"').split() or ["?"]

    def wait_replicated(self, vhost: str = "/") -> None:
        """Block until there are none of those."""
        block_until(lambda: not self.not_replicated(vhost), _STREAM_S, f"the streams of {vhost} are on every broker")

    def close(self) -> None:
        """End all. Idempotent."""
        for broker in self:
            broker.close()
        self._mapper.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        faults = [fault for broker in self if (fault := broker.fault())]
        self.close()
        assert not faults, "\n".join(faults)


def _info(queue: str, vhost: str, item: str) -> str:
    """An expression for what a broker knows of a queue."""
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)'
    return f"element(2, hd(rabbit_amqqueue:info(element(2, rabbit_amqqueue:lookup({name})), [{item}])))"


def _asked(broker: Rabbit, expression: str) -> str:
    """What the broker answers; empty where it cannot be asked yet."""
    try:
        return broker.erlang(expression)
    except ErlangError:
        return ""

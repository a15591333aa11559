"""Another process with a log open, that does what it is told: one JSON object a line in, one out."""

import asyncio
import fcntl
import json
import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from broker.log import START, Broker, LogUnavailable
from broker.rabbitmq import open_rabbitmq
from broker.sqlite import open_sqlite
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0
_LONGEST_LINE = 64 * 1024 * 1024
Message = dict[str, Any]

# The parent's side


class LogProcess:
    """A running child; see `Commands` for what it can be asked."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, do: str, **arguments: Any) -> Message:
        """Do this and wait for its answer."""
        await self.tell(do, **arguments)
        return await self.hear()

    async def tell(self, do: str, **arguments: Any) -> None:
        """Begin this and do not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do} | arguments).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> Message:
        """The next line it writes; an empty object at its end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else {}

    async def heard(self) -> list[Message]:
        """Everything it has still to say until it ends; a line that was cut off does not count."""
        messages = []
        while message := await self.hear():
            messages.append(message)
        return messages

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def log_process(where: Path | str, *, before: Sequence[str] = (), how: Message | None = None) -> AsyncIterator[LogProcess]:
    """A child that opens the log at `where`, a file or the URL of a broker. It is killed at the end.

    `before` is a command that ends by running its arguments. `how` is: `name`, `partitions`, `create` as for `open_sqlite` and
    `open_rabbitmq`; `uid`, to become that user; `wait`, to open only when told anything; `openings`, to open it, append one record and
    close it so many times before; or, of a file, `hold` with `lock` and `begin`, to hold what a torn process may hold instead of
    opening the log.
    Its first line is `{"epoch", "partitions"}` or `{"error", "message"}`.
    """
    arguments = json.dumps({"where": str(where)} | (how or {}))
    command = [*before, sys.executable, "-m", "tests.support.log_process", arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=_LONGEST_LINE)
    child = LogProcess(process)
    try:
        yield child
    finally:
        await child.kill()


@asynccontextmanager
async def opened(where: Path | str, *, before: Sequence[str] = (), how: Message | None = None) -> AsyncIterator[LogProcess]:
    """A child that has opened the log."""
    async with log_process(where, before=before, how=how) as child:
        first = await child.hear()
        assert "epoch" in first, first
        yield child


# The child's side


def _say(message: Message) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


class Commands:
    """What the child can be asked."""

    def __init__(self, broker: Broker, where: str) -> None:
        self._log, self._signals, self._path = broker.log, broker.signals, Path(where)
        self._tasks: list[asyncio.Task[None]] = []

    async def append(self, partition: int, texts: list[str]) -> Message:
        """Append all at once: which were acknowledged, what the others got, and after how long at most."""
        began = time.monotonic()
        outcomes = await asyncio.gather(*(self._log.append(partition, t.encode()) for t in texts), return_exceptions=True)
        took = time.monotonic() - began
        errors = [f"{type(o).__name__}: {o}" for o in outcomes if o is not None]
        return {"acked": [t for t, o in zip(texts, outcomes, strict=True) if o is None], "errors": errors, "took": took}

    async def stream(self, name: str, in_flight: int) -> Message:
        """From now on append `name:number` to all partitions in turn, and say each number once it is acknowledged."""
        numbers = iter(range(1 << 60))

        async def work() -> None:
            for number in numbers:
                await self._log.append(number % self._log.partitions, f"{name}:{number}".encode())
                _say({"acked": number})

        self._tasks += [asyncio.create_task(work()) for _ in range(in_flight)]
        return {}

    async def flood(self, partition: int, in_flight: int) -> Message:
        """From now on append to one partition as fast as it goes."""

        async def work() -> None:
            while True:
                await self._log.append(partition, b"x" * 1000)

        self._tasks += [asyncio.create_task(work()) for _ in range(in_flight)]
        return {}

    async def read(self, partition: int, count: int) -> Message:
        """The first `count` records of a partition, waiting for them."""
        records: list[tuple[int, str]] = []
        async with aclosing(self._log.follow(partition, START)) as batches:
            while len(records) < count:
                records += [(r.position.offset, r.data.decode()) for r in await anext(batches)]
        return {"records": records}

    async def up(self, wanted: bool) -> Message:
        """Wait until the log says that it is up, or that it is not."""
        began = time.monotonic()
        await wait_until(lambda: self._log.up is wanted, PATIENCE_S, f"up to be {wanted}")
        return {"up": self._log.up, "took": time.monotonic() - began}

    async def subscribe(self) -> Message:
        """From now on say the length and the beginning of each signal."""
        self._signals.subscribe(lambda data: _say({"signal": data[:100].decode(), "length": len(data)}))
        return {}

    async def publish(self, text: str) -> Message:
        """Publish a signal."""
        self._signals.publish(text.encode())
        return {}

    async def limit_files(self, size: int | None) -> Message:
        """No file of this process may grow past `size` bytes; None takes the limit away."""
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
        return {}

    async def fill_disk(self) -> Message:
        """Write a file beside the log until nothing more goes."""
        size = 0
        with self._path.with_name("filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    size += filler.write(b"x" * 4096)
            except OSError as error:
                return {"why": error.strerror, "size": size}

    async def free_disk(self) -> Message:
        """Remove that file."""
        self._path.with_name("filler").unlink()
        return {}


async def _serve(how: Message) -> None:
    where = how.pop("where")
    if how.pop("wait", False):
        _say({"ready": True})
        sys.stdin.readline()
    if (uid := how.pop("uid", None)) is not None:
        await asyncio.to_thread(int)  # imports what this needs, which the other user may not be able to read
        os.setuid(uid)
    try:
        openings = how.pop("openings", 0)
        options: Message = {"partitions": 3, "name": "child"} | how
        for _ in range(openings):
            async with _open(where, options) as broker:
                await broker.log.append(0, b"opened")
        async with _open(where, options) as broker:
            _say({"epoch": broker.log.epoch, "partitions": broker.log.partitions})
            await _obey(Commands(broker, where))
    except (LogUnavailable, ValueError) as error:
        _say({"error": type(error).__name__, "message": str(error)})


def _open(where: str, options: Message) -> AbstractAsyncContextManager[Broker]:
    return open_rabbitmq([where], **options) if "://" in where else open_sqlite(Path(where), **options)


async def _obey(commands: Commands) -> None:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        _say(await getattr(commands, command.pop("do"))(**command))


def _hold(path: Path, *, lock: bool, begin: str | None) -> None:
    """Hold what a torn process may hold, in the middle of a transaction, until this process is killed."""
    if lock:
        fcntl.flock(os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    connection = sqlite3.connect(path, isolation_level=None)
    if begin is not None:
        connection.execute(f"BEGIN {begin}")
        connection.execute("INSERT INTO partition_0 SELECT ifnull(max(offset), 0) + 1, CAST('torn' AS BLOB) FROM partition_0")
    _say({"epoch": "held"})
    signal.pause()


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    if asked.pop("hold", False):
        _hold(Path(asked.pop("where")), **asked)
    else:
        asyncio.run(_serve(asked))

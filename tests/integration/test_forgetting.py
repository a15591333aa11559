"""Withdrawals on real nodes: until when each holds, whoever made it, and how a node forgets those that are over."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.sqlite import open_sqlite
from broker.topology import control_partition
from node.core.events import Event, SessionOpened, TokensRevoked, UserSuspended, encode
from node.core.view import FOR_EVER, Withdrawals
from tests.support.client import ConnectRefused, chat_client, ok, raw_client
from tests.support.commands import tidegate
from tests.support.http import async_http, bearer
from tests.support.nodes import Cluster, NodeProcess
from tests.support.tokens import token
from tests.support.wait import block_until

pytestmark = pytest.mark.anyio

CAP_S, LEEWAY_S = 900, 7
LIFE_MS = (CAP_S + LEEWAY_S) * 1000
CAPPED = {"jwt_max_ttl_seconds": str(CAP_S), "jwt_leeway_seconds": str(LEEWAY_S)}
LIMIT_S = 20.0
AN_HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node whose tokens have a longest life; every test has users of its own."""
    with Cluster(tmp_path_factory.mktemp("forgetting"), CAPPED, count=1) as cluster:
        yield cluster[0]


def until_of(folder: Path, **what: str) -> int:
    """Until when the node's read model has a user, a `jti` or a session withdrawn, once it has it at all."""
    ((kind, one),) = what.items()

    def find() -> int | None:
        with closing(sqlite3.connect(folder / "n1.db")) as model:
            if kind != "user":
                row = model.execute("SELECT until FROM revoked WHERE kind = ? AND id = ?", (kind, one)).fetchone()
                return row[0] if row is not None else None
            row = model.execute("SELECT value FROM withdrawals WHERE user = ?", (one,)).fetchone()
            return msgspec.json.decode(row[0], type=Withdrawals).revoked[0].until if row is not None else None

    block_until(lambda: find() is not None, LIMIT_S, f"the read model has {one} withdrawn")
    found = find()
    assert found is not None
    return found


async def code_of(url: str, bearer: str) -> str:
    """The code with which a CONNECT is refused; `welcome` where it is not."""
    async with raw_client(url) as client:
        try:
            await client.join_namespace({"token": bearer})
        except ConnectRefused as refused:
            return refused.code
        return "welcome"


async def revoke(url: str, **what: object) -> int:
    """Revoke over HTTP; returns the moment `before` of the answer, or of now."""
    async with async_http(headers=bearer(token("root", scope="admin"))) as http:
        answer = await http.post(f"{url}/api/revoke", json=what)
        assert answer.status_code == 200
        return int(answer.json().get("before", time.time() * 1000))


async def test_until_when_a_nodes_withdrawals_hold(node: NodeProcess) -> None:
    """With a longest life: that, and the leeway, behind the moment of the withdrawal; over HTTP and over `/admin`."""
    before = await revoke(node.url, user="ann")
    assert until_of(node.folder, user="ann") == before + LIFE_MS
    await revoke(node.url, user="bea", before=before - 100_000)
    assert until_of(node.folder, user="bea") == before - 100_000 + LIFE_MS
    async with raw_client(node.url) as boss:
        await boss.join_namespace({"token": token("root", scope="admin")}, "/admin")
        for what in ({"jti": "j-1"}, {"session": "nobody's"}):
            began = int(time.time() * 1000)
            ok(await boss.ask("revoke", what, namespace="/admin"))
            assert began <= until_of(node.folder, **what) - LIFE_MS <= time.time() * 1000


def test_until_when_the_commands_withdrawals_hold(node: NodeProcess, tmp_path: Path) -> None:
    """`tidegate revoke` says so by the same settings, from flags or variables; without a longest life it is for ever."""

    def command(*arguments: object, **settings: str) -> None:
        done = tidegate("revoke", *arguments, "--data", node.folder, folder=tmp_path, **settings)
        assert (done.returncode, done.stderr) == (0, "")

    moment = 1_790_000_000_000
    command("--user", "cleo", "--before", moment, "--jwt-max-ttl-seconds", CAP_S, "--jwt-leeway-seconds", LEEWAY_S)
    command("--user", "dan", "--before", moment, **CAPPED)
    command("--user", "eve", "--before", moment)
    assert [until_of(node.folder, user=user) for user in ("cleo", "dan", "eve")] == [moment + LIFE_MS, moment + LIFE_MS, FOR_EVER]


async def test_without_a_longest_life_a_known_token_ends_its_withdrawal(tmp_path: Path) -> None:
    """A `jti` that an open session has is withdrawn until that token's end; all else for ever."""
    with Cluster(tmp_path, count=1) as cluster:
        expires_at = (int(time.time()) + 600) * 1000
        async with chat_client(cluster[0].url, token("ann", jti="j-known", exp=expires_at // 1000)) as ann:
            await revoke(cluster[0].url, jti="j-known")
            assert await ann.expect("auth:revoked") == {"code": "token_revoked"}
        await revoke(cluster[0].url, jti="j-unknown")
        await revoke(cluster[0].url, user="ann")
        assert until_of(tmp_path, jti="j-known") == expires_at + 5_000
        assert until_of(tmp_path, jti="j-unknown") == until_of(tmp_path, user="ann") == FOR_EVER


def withdrawals(number: int, until: int | None, now: int) -> list[Event]:
    """One of each kind that holds until a moment, of tokens of now."""
    common: dict[str, Any] = {"at": now - 2 * AN_HOUR_MS, "by": "root", "before": now + AN_HOUR_MS}
    return [
        TokensRevoked(id=f"user-{number}", user=f"user-{number}", until=until, **common),
        TokensRevoked(id=f"jti-{number}", jti=f"jti-{number}", until=until, **common),
        TokensRevoked(id=f"session-{number}", session=f"session-{number}", until=until, **common),
        UserSuspended(id=f"out-{number}", at=now - 2 * AN_HOUR_MS, by="root", user=f"out-{number}", until=until),
    ]


async def test_a_node_forgets_what_is_over(tmp_path: Path) -> None:
    """Once it is level with the log: what is over is gone from its read model and refuses nobody, what holds stays and refuses."""
    now = int(time.time() * 1000)
    lives = SessionOpened(
        id="o", at=now, by="ann", session="known", node="n9", namespace="/", transport="polling", expires_at=FOR_EVER
    )
    chain = TokensRevoked(id="known", at=now, by="root", before=now, session="known", until=now - AN_HOUR_MS)
    events = [
        *withdrawals(1, now - AN_HOUR_MS, now),
        *withdrawals(2, now + AN_HOUR_MS, now),
        *withdrawals(3, None, now),
        lives,
        chain,
    ]
    async with open_sqlite(tmp_path / "log.db", partitions=9, name="test") as broker:
        for event in events:
            await broker.log.append(control_partition(8), encode(event))

    def kept() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "n1.db")) as model:
            marks = model.execute("SELECT id FROM revoked ORDER BY id").fetchall()
            return [one for (one,) in [*marks, *model.execute("SELECT user FROM withdrawals ORDER BY user")]]

    left = [f"{kind}-{number}" for kinds in (("jti", "session"), ("out", "user")) for kind in kinds for number in (2, 3)]
    with Cluster(tmp_path, count=1) as cluster:
        for _ in range(2):
            url = cluster[0].url
            await asyncio.to_thread(block_until, lambda: kept() == left, LIMIT_S, f"only {left} are kept")
            for number, codes in ((1, ["welcome"] * 3), (2, ["token_revoked", "token_revoked", "user_suspended"])):
                presented = [token(f"user-{number}"), token("ann", jti=f"jti-{number}"), token(f"out-{number}")]
                assert [await code_of(url, one) for one in presented] == codes
            same = await asyncio.to_thread(tidegate, "replay", "--verify", "--data", tmp_path, folder=tmp_path)
            assert (same.returncode, same.stderr) == (0, "")
            async with raw_client(url) as client:
                with pytest.raises(ConnectRefused) as refused:
                    await client.join_namespace({"token": token("ann"), "resume": {"session": "known"}})
                assert refused.value.code == "token_revoked", "a chain that is known stays withdrawn"
            cluster[0].terminate()
            await asyncio.to_thread(cluster[0].wait_ended)
            await asyncio.to_thread(cluster.start)
        assert cluster[0].stderr().count("withdrawals that are over are forgotten") == 1

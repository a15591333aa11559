"""`tidegate revoke` and `tidegate suspend`: what nodes that run, and nodes that start later, make of them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cli.moments import written
from tests.support.client import chat_client, code_of
from tests.support.commands import tidegate
from tests.support.held import log_held
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes; every test has users of its own, and leaves them running."""
    with Cluster(tmp_path_factory.mktemp("cli-revoke"), count=2) as cluster:
        yield cluster


def command(folder: Path, *arguments: object) -> str:
    """What the command says once it has been carried out."""
    done = tidegate(*arguments, "--data", folder, folder=folder)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    return done.stdout.rstrip("\n")


async def settles(cluster: Cluster, bearer: str, code: str, **auth: object) -> None:
    """Wait until each node answers this token so: a node hears of what was appended a moment later."""
    for url in cluster.urls:

        async def answered(url: str = url) -> bool:
            return await code_of(url, bearer, **auth) == code

        await wait_until(answered, 5, f"{url} answers {code}")


async def test_by_user(cluster: Cluster) -> None:
    """Beside running nodes: the user's sessions end on each, the tokens so far are worth nothing, a newer one is accepted."""
    before = token("ann")
    async with chat_client(cluster[0].url, before) as one, chat_client(cluster[1].url, before) as two:
        began = time.time() * 1000
        said = command(cluster.folder, "revoke", "--user", "ann")
        moment = re.fullmatch(r"withdrawn: the tokens of 'ann' that were issued before (\S+)", said)
        assert moment is not None
        assert written(int(began)) <= moment[1] <= written(int(time.time() * 1000))
        for client in (one, two):
            assert await client.expect("auth:revoked") == {"code": "token_revoked"}
            await client.wait_closed()
    await settles(cluster, before, "token_revoked")
    await settles(cluster, token("ann"), "welcome")


async def test_by_user_before_a_moment(cluster: Cluster) -> None:
    """`--before` takes a time in any of its forms; what was issued at it or later stays."""
    older, newer = token("bea", iat=time.time() - 200), token("bea", iat=time.time() - 100)
    assert command(cluster.folder, "revoke", "--user", "bea", "--before", "150s ago").startswith("withdrawn: the tokens of 'bea'")
    await settles(cluster, older, "token_revoked")
    await settles(cluster, newer, "welcome")
    moment = "2026-05-04T13:00:00Z"
    said = command(cluster.folder, "revoke", "--user", "bea", "--before", moment)
    assert said == "withdrawn: the tokens of 'bea' that were issued before 2026-05-04T13:00:00.000Z"
    await settles(cluster, newer, "welcome")


async def test_by_token_and_by_session(cluster: Cluster) -> None:
    """One token, one session: told, gone, and not to be used or resumed again; the user's others stay."""
    async with (
        chat_client(cluster[0].url, token("cleo", jti="cleo-1")) as by_jti,
        chat_client(cluster[1].url, token("cleo", jti="cleo-2")) as by_session,
        chat_client(cluster[1].url, token("cleo", jti="cleo-3")) as kept,
    ):
        session = by_session.named("welcome")[0]["session"]
        said = command(cluster.folder, "revoke", "--jti", "cleo-1")
        assert said == "withdrawn: the token 'cleo-1', and every session that ever had it"
        assert command(cluster.folder, "revoke", "--session", session) == f"withdrawn: the session '{session}'"
        for client in (by_jti, by_session):
            assert await client.expect("auth:revoked") == {"code": "token_revoked"}
            await client.wait_closed()
        await settles(cluster, token("cleo", jti="cleo-1"), "token_revoked")
        await settles(cluster, token("cleo", jti="cleo-4"), "token_revoked", resume={"session": session})
        assert (await kept.ask("room:list", {}))["ok"] is True


async def test_suspension_and_its_end(cluster: Cluster) -> None:
    """However new the token: until it is lifted, or until the time that was given."""
    async with chat_client(cluster[1].url, token("dan")) as dan:
        assert command(cluster.folder, "suspend", "dan") == "suspended: 'dan', until it is lifted with `--until now`"
        assert await dan.expect("auth:revoked") == {"code": "user_suspended"}
        await dan.wait_closed()
    await settles(cluster, token("dan", iat=time.time() + 1), "user_suspended")
    assert command(cluster.folder, "suspend", "dan", "--until", "now") == "not suspended any more: 'dan'"
    await settles(cluster, token("dan"), "welcome")
    said = command(cluster.folder, "suspend", "dan", "--until", "2099-01-01T00:00:00Z")
    assert said == "suspended: 'dan', until 2099-01-01T00:00:00.000Z"
    await settles(cluster, token("dan"), "user_suspended")


async def test_while_no_node_runs(tmp_path: Path) -> None:
    """It is in the log, and holds as soon as a node starts."""
    withdrawn = token("eve")
    with Cluster(tmp_path, count=1) as cluster:
        assert await code_of(cluster[0].url, withdrawn) == "welcome"
        cluster[0].terminate()
        assert cluster[0].wait_ended() == 0
        command(tmp_path, "revoke", "--user", "eve")
        command(tmp_path, "suspend", "fay")
        cluster.start()
        assert await code_of(cluster[0].url, withdrawn) == "token_revoked"
        assert await code_of(cluster[0].url, token("eve")) == "welcome"
        assert await code_of(cluster[0].url, token("fay")) == "user_suspended"


def test_a_log_that_takes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """No log, and one that is held: one line that says so, and exit 1."""
    missing = tidegate("revoke", "--user", "ann", "--data", tmp_path / "none", folder=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert re.fullmatch(r"nothing was withdrawn: .*none/log\.db.*\n", missing.stderr)
    assert list(tmp_path.iterdir()) == []
    with log_held(cluster.folder):
        held = tidegate("suspend", "ann", "--data", cluster.folder, folder=tmp_path)
    assert (held.returncode, held.stdout) == (1, "")
    assert re.fullmatch(r"nothing was withdrawn: .+\n", held.stderr)


BAD: list[tuple[list[str], list[str]]] = [
    (["revoke"], ["`tidegate revoke`: takes one of --user, --jti and --session, got none"]),
    (
        ["revoke", "--user", "a", "--jti", "j"],
        ["`tidegate revoke`: takes one of --user, --jti and --session, got --user and --jti"],
    ),
    (["revoke", "--session", "s", "--before", "now"], ["--before: takes a time with --user, got one without"]),
    (["revoke", "--user", ""], ["--user: takes the name of a user, got ''"]),
    (["revoke", "--jti"], ["--jti: takes an id, 1 to 8192 characters, got nothing"]),
    (["suspend"], ["USER: takes the name of a user, got nothing"]),
    (["suspend", "a", "b"], ["`tidegate suspend`: takes USER, got 2 arguments"]),
    (["suspend", "\udcff"], ["USER: takes the name of a user, got '\\udcff'"]),
]


@pytest.mark.parametrize(("arguments", "lines"), BAD, ids=lambda value: " ".join(value)[:40].encode("ascii", "replace").decode())
def test_bad_command_lines(tmp_path: Path, arguments: list[str], lines: list[str]) -> None:
    """One line for each problem, exit 2, and nothing is made."""
    done = tidegate(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (2, "", lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flags", [["revoke", "--user", "a", "--before"], ["suspend", "a", "--until"]], ids=["before", "until"])
def test_bad_times(tmp_path: Path, flags: list[str]) -> None:
    """What is no time, and one that no calendar has."""
    for text in ("soon", "-5m", "999999999999999"):
        done = tidegate(*flags, text, folder=tmp_path)
        assert done.returncode == 2
        assert re.fullmatch(rf"{flags[-1]}: takes a time: .+, got '{text}'\n", done.stderr)

"""A real Prometheus with the repository's rules watches a real cluster: each fault raises its alert, a cliff is told before it comes."""

import asyncio
import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from websockets.exceptions import InvalidStatus

from monitoring.dashboards import Target, dashboards, targets
from monitoring.known import RABBITMQ, level, rules
from monitoring.pace import divided, in_expression
from monitoring.promql import selectors
from tests.support.client import Client, ConnectRefused, chat_client, error
from tests.support.http import async_http, bearer
from tests.support.prometheus import Firing, Series
from tests.support.tokens import token
from tests.support.wait import wait_until
from tests.support.watched import CAPACITY, KEY, LIMIT_S, OF_THE_MACHINE, PACE, Watched, watched

pytestmark = [pytest.mark.anyio, pytest.mark.prometheus, pytest.mark.rabbitmq]

CLIFF_S = 10.0  # from the first who connects
CROWD = round(CAPACITY * 12)  # people: 12 s of handshakes, where 10 are a cliff
STEP_S = 1.0
ASKED = {"$job": "tidegate", "$node": "n.*", "$__rate_interval": divided("1m", PACE)}
ASKED_OF_RABBITMQ = ASKED | {"$job": "rabbitmq", "$node": "rabbit.*"}
_LABEL = re.compile(r"{{(\w+)}}")
_COMPARED = re.compile(r" (== bool 0 > 0|[=!<>]=? [\d.]+)$")


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """One for all tests of this file, each of which leaves it in calm."""
    async with watched(tmp_path_factory.mktemp("watched")) as everything:
        yield everything


async def test_an_issuer_that_does_not_answer_and_a_node_that_was_drained(cluster: Watched) -> None:
    """Two at once are told apart: those that are there say that their keys grow old; of the one that drained, nothing but that it did."""
    node = cluster.cluster[2]

    async def break_both() -> None:
        cluster.issuer.stalled = True
        node.terminate()
        await asyncio.to_thread(node.wait_ended)

    async def mend_both() -> None:
        cluster.issuer.stalled = False
        node.start()
        await asyncio.to_thread(node.wait_ready)

    stale = {Firing("TidegateJwksStale", name) for name in ("n1", "n2")}
    await cluster.raises({*stale, Firing("TidegateNodeDrained", "n3")}, break_both, mend_both)


async def test_a_deaf_node(cluster: Watched) -> None:
    """A node to which nothing is delivered, whatever connection it takes, is the only one that anything is said of."""

    async def deafen() -> None:
        cluster.proxy.deafen("follow")

    async def hear() -> None:
        cluster.proxy.mend("follow")

    await cluster.raises({Firing("TidegateDeaf", "n3")}, deafen, hear)


async def test_a_stopped_broker(cluster: Watched) -> None:
    """Each node says that it has no log, and nobody that a broker of several is gone; all is well once it is back."""

    async def stop() -> None:
        await asyncio.to_thread(cluster.rabbit.stop)

    async def start() -> None:
        cluster.rabbit.start()
        await asyncio.to_thread(cluster.rabbit.wait_ready)

    await cluster.raises({Firing("TidegateBrokerDown", name) for name in ("n1", "n2", "n3")}, stop, start)


async def test_a_cliff_is_told_before_it_comes(cluster: Watched) -> None:
    """It is told while all are connected, and so is the storm that follows; then all clears, and every panel and rule has its data."""
    cliff, ahead, storm = time.time() + CLIFF_S, Firing("TidegateCliffAhead", ""), Firing("TidegateStorm", "")
    cluster.watch.begin()
    await _one_of_each(cluster)
    async with asyncio.TaskGroup() as people:
        for number in range(CROWD):
            people.create_task(_falls_off(cluster, number, cliff))
        await wait_until(lambda: ahead in cluster.firing, LIMIT_S, "the cliff is told")
        assert time.time() < cliff
        await wait_until(lambda: time.time() > cliff + 1 and storm in cluster.firing, LIMIT_S, "the storm is told")
    await cluster.calm("after the storm")
    # Who comes all at once may be sent away, and a crowd that lets its tokens end is one that does not renew any more.
    expected = {ahead, storm, Firing("TidegateShedding", ""), Firing("TidegateRenewalsFailing", "")}
    assert {one for one in cluster.watch.seen if one.alert not in OF_THE_MACHINE} <= expected
    now = time.time()
    for name, dashboard in dashboards().items():
        for target in targets(dashboard):
            await _has_data(cluster, target, ASKED_OF_RABBITMQ if name == "rabbitmq.json" else ASKED, now)
    await _every_rule_is_well(cluster, now)
    await _rabbitmq_tells_what_is_known(cluster)


async def _falls_off(cluster: Watched, number: int, at: float) -> None:
    """Connect, stay until the token ends, and come back when everybody does, by the first node: who is sent away tries the next one."""
    user = f"crowd-{number}"
    with suppress(ConnectRefused):  # its token may end while it waits for its turn, on a busy machine
        async with _admitted(cluster, number, token(user, exp=at)) as client:
            await client.wait_closed(LIMIT_S)
    async with _admitted(cluster, 0, token(user)):
        pass


@asynccontextmanager
async def _admitted(cluster: Watched, first: int, bearer: str) -> AsyncIterator[Client]:
    async with AsyncExitStack() as stack:
        for place in itertools.count(first):
            try:
                client = await stack.enter_async_context(chat_client(cluster.cluster[place % 3].url, bearer))
            except InvalidStatus as refused:
                if refused.response.status_code != 503:
                    raise
                await asyncio.sleep(1)
            else:
                yield client
                return


async def _one_of_each(cluster: Watched) -> None:
    """What the load test does not do: a bad token, a bad renewal, an issuer's token, a withdrawal."""
    url = cluster.cluster[0].url
    with pytest.raises(ConnectRefused):
        async with chat_client(url, token("eve", secret="x" * 40)):
            pass
    async with chat_client(url, KEY.token("ann")) as ann, async_http(base_url=url) as http:
        error(await ann.ask("auth:refresh", {"token": token("eve")}))
        withdrawn = await http.post("/api/revoke", json={"user": "ann"}, headers=bearer(token("root", scope="admin")))
        assert withdrawn.status_code == 200, withdrawn.text
        await ann.wait_closed()


async def _has_data(cluster: Watched, target: Target, chosen: Mapping[str, str], now: float) -> None:
    """A panel's query gives series with the labels that its legend names, and a value in each; a comparison at its end may leave none."""
    query = target.expr
    for variable, value in chosen.items():
        query = query.replace(variable, value)
    query = in_expression(query, PACE) if "[1m]" in query else query
    found = await cluster.prometheus.over(query, cluster.began, now, STEP_S)
    if not found:
        found = await cluster.prometheus.over(_COMPARED.sub("", query), cluster.began, now, STEP_S)
    assert found, f"{target.place}: nothing for {query}"
    named = set(_LABEL.findall(target.legend))
    assert all(named <= series["metric"].keys() for series in found), (
        f"{target.place}: {found[0]['metric']} lacks some of {named}"
    )
    assert _finite(found), f"{target.place}: no number ever for {query}"


async def _every_rule_is_well(cluster: Watched, now: float) -> None:
    """Prometheus judges each without an error; what is recorded has the labels of its level; what alerts could tell for whom."""
    groups = (await cluster.prometheus.ask("rules"))["groups"]
    judged = [rule for group in groups for rule in group["rules"]]
    assert len(judged) == len(rules())
    assert [rule for rule in judged if rule["health"] != "ok"] == []
    for rule in rules():
        if "record" in rule:
            found = await cluster.prometheus.over(rule["record"], cluster.began, now, STEP_S)
            assert found, rule["record"]
            assert {frozenset(series["metric"]) - {"__name__"} for series in found} == {level(rule["record"])}, rule["record"]
            assert _finite(found), rule["record"]
        else:
            await cluster.prometheus.instant(in_expression(rule["expr"], PACE))


async def _rabbitmq_tells_what_is_known(cluster: Watched) -> None:
    """All that the rules and panels may ask of RabbitMQ is in what it tells."""
    told = {series["metric"]["__name__"] for series in await cluster.prometheus.instant('{job="rabbitmq"}')}
    known = {line.split()[0] for line in RABBITMQ.read_text().splitlines() if not line.startswith("#")}
    asked = {one.metric for dashboard in dashboards().values() for target in targets(dashboard) for one in selectors(target.expr)}
    assert (asked & known) - told == set()


def _finite(found: Series) -> bool:
    return any(math.isfinite(float(value)) for series in found for _, value in series["values"])

"""Who takes part in a storm: the same people at the same seed."""

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loadtest.options import plan_of
from loadtest.route import End
from loadtest.storm import Storm
from tests.unit.test_load_options import GIVEN, SECRET

HOSTS = "http://a.test:1,http://b.test:1,http://c.test:1"
KINDS = ("Talker", "Listener", "Hopper") * 5


def acts(seed: str, *, waits: int) -> list[tuple[Any, ...]]:
    """What each of some people is and draws, where each client has had to wait so many times first."""
    storm = Storm(plan_of(Namespace(**GIVEN | {"seed": seed, "jwt_secret": SECRET}), HOSTS), observer=None, began=0.0)  # type: ignore[arg-type]
    found = []
    for number, kind in enumerate(KINDS):
        person = storm.join(kind, f"p-{number}", number)
        route = person.client.route
        nodes = tuple(getattr(route, "urls", ()))
        for _ in range(waits):
            route.after(End(code="server_busy"))
        found.append((person.client.credentials.renews, nodes, [person.draw.random() for _ in range(5)]))
    storm.end()
    return found


def test_the_same_seed_is_the_same_storm() -> None:
    """Who renews, in which order the nodes are tried, who does what when: however often the cluster has had somebody wait meanwhile."""
    with ThreadPoolExecutor(1) as pool:  # an event loop of gevent's belongs to a thread
        one, same, other = (pool.submit(acts, seed, waits=waits).result() for seed, waits in (("s", 0), ("s", 7), ("t", 0)))
    assert one == same
    assert all(mine[2] != yours[2] for mine, yours in zip(one, other, strict=True))
    assert len({renews for renews, _, _ in one}) == 2

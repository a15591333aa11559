"""What people do in a storm, as data: how many of which kind there are, how their tokens and rooms are, and what happens to them."""

from collections.abc import Mapping
from typing import Literal

import msgspec

TALKER, LISTENER, LURKER, HOPPER = "Talker", "Listener", "Lurker", "Hopper"
CROSS_CHECKER, REPLAYER = "CrossChecker", "Replayer"
KINDS = (TALKER, LISTENER, LURKER, HOPPER)  # whose weights a flag can set
ALL_KINDS = (*KINDS, CROSS_CHECKER, REPLAYER)

Strike = Literal["nothing", "cliff", "drain", "kill", "broker", "waking", "revocation"]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A storm. What a flag of the same name can set is its default here; seconds count from the start."""

    name: str
    meaning: str
    strike: Strike = "nothing"  # what happens at `strike_s`
    strike_s: float = 30.0
    people: Mapping[str, int] = msgspec.field(default_factory=lambda: {TALKER: 3, LISTENER: 4, LURKER: 2, HOPPER: 1})  # weights
    users: int = 300
    arrive_s: float = 10.0  # within which they come
    ahead_s: float = 0.0  # before a log begins: everybody is to have come by then
    run_s: float = 60.0
    rooms: int = 20  # of the whole storm
    rooms_each: int = 2  # that one person is in
    rate: float = 0.1  # messages a second of one talker
    stay_s: float = 30.0  # of a hopper in one room, on average
    ttl_s: float = 60.0  # of a token, where the scenario does not say when it ends
    renewing: float = 0.8  # share of people who renew; the others let their token end and come back with another
    share: float = 1.0  # of people whom it happens to


_FOUND = (
    Scenario(
        name="steady",
        meaning="people come, talk, renew or not, and come back, as on any day",
        ttl_s=20.0,
    ),
    Scenario(
        name="cliff",
        meaning="every token ends in the same second",
        strike="cliff",
        users=1_500,
        arrive_s=15.0,
        rooms=50,
        rate=0.05,
    ),
    Scenario(
        name="rolling",
        meaning="the nodes drain one after the other, each back before the next",
        strike="drain",
        strike_s=15.0,
    ),
    Scenario(
        name="node-loss",
        meaning="a node is killed",
        strike="kill",
        strike_s=20.0,
    ),
    Scenario(
        name="broker-restart",
        meaning="the broker is killed and started again",
        strike="broker",
        strike_s=20.0,
    ),
    Scenario(
        name="morning",
        meaning="most people were away over night, and wake together, each with a stale token",
        strike="waking",
        users=1_000,
        rooms=50,
        share=0.9,
    ),
    Scenario(
        name="revocation",
        meaning="the tokens of some people are withdrawn; they sign in anew",
        strike="revocation",
        strike_s=20.0,
        share=0.3,
    ),
    Scenario(
        name="cross-check",
        meaning="people of Locust's own SocketIOUser among ours: both see the same, in times that agree",
        people={TALKER: 2, LISTENER: 2, CROSS_CHECKER: 2},
        users=60,
        rooms=5,
        rate=0.5,
        ttl_s=3_600.0,
    ),
    Scenario(
        name="replay",
        meaning="the sessions of a real log, at the same distances (--sessions FILE)",
        people={REPLAYER: 1},
        arrive_s=1.0,
        rooms=50,
    ),
)

STEADY = _FOUND[0]
SCENARIOS = {scenario.name: scenario for scenario in _FOUND}

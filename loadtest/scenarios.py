"""What people do in a storm, as data: how many of which kind there are, and how their tokens and rooms are."""

from collections.abc import Mapping

import msgspec

TALKER, LISTENER, LURKER, HOPPER = "Talker", "Listener", "Lurker", "Hopper"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A storm. What a flag of the same name can set is its default here."""

    name: str
    meaning: str
    people: Mapping[str, int]  # weights of the kinds
    rooms: int  # of the whole storm
    rooms_each: int  # that one person is in
    rate: float  # messages a second of one talker
    stay_s: float  # of a hopper in one room, on average
    ttl_s: float  # of a token
    renewing: float  # share of people who renew; the others let their token end and come back with another


STEADY = Scenario(
    name="steady",
    meaning="people come, talk, renew or not, and come back, as on any day",
    people={TALKER: 3, LISTENER: 4, LURKER: 2, HOPPER: 1},
    rooms=10,
    rooms_each=2,
    rate=0.5,
    stay_s=10.0,
    ttl_s=60.0,
    renewing=0.8,
)

SCENARIOS = {scenario.name: scenario for scenario in (STEADY,)}

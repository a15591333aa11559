"""Sessions of a real log, made into people of a storm."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.options import plan_of
from loadtest.places import Places
from loadtest.recorded import Away, Unreadable, read_sessions
from tests.unit.test_load_options import GIVEN

BEGAN = 1_700_000_000_000


def session(name: str, opened_s: float, closed_s: float | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """As `tidegate sessions --json` has it; times in seconds from the first."""
    return {
        "session": name,
        "user": f"user of {name}",
        "node": "n1",
        "namespace": "/",
        "transport": "websocket",
        "opened_at": int(BEGAN + opened_s * 1000),
        "expires_at": int(BEGAN + 60_000),
        "root": name,
        "closed_at": None if closed_s is None else int(BEGAN + closed_s * 1000),
        "reason": reason,
    } | more


def written(folder: Path, *sessions: dict[str, Any]) -> Path:
    file = folder / "sessions.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in sessions))
    return file


def test_a_chain_of_resumes_is_one_person(tmp_path: Path) -> None:
    """With the distances that it had; what the cluster ended is left to it to end, what its person ended is ended by them."""
    renewed = [{"since": BEGAN, "expires_at": BEGAN + 10_000}, {"since": BEGAN, "expires_at": BEGAN + 60_000}]
    file = written(
        tmp_path,
        session("a", 0, 10, "token_expired"),
        session("c", 4, node="n2", lineage=renewed, renewals=1),
        session("b", 12, 20, "client", root="a"),
        session("x", 1, namespace="/admin"),
    )
    found = read_sessions(file, speed=1)
    assert len(found.people) == 2 and found.lasted_s == 20
    first, second = found.people
    assert first.absences() == [
        Away(begins_s=-math.inf, ends_s=0.0, said=True),
        Away(begins_s=10.5, ends_s=12.0, said=False),
        Away(begins_s=20.0, ends_s=None, said=True),
    ]
    assert second.absences() == [Away(begins_s=-math.inf, ends_s=4.0, said=True)]
    assert (first.node, second.node) == (0, 1)
    stay = second.at(5)
    assert (stay.first_token_s, stay.last_token_s, stay.renews) == (10.0, 60.0, True)
    assert first.at(0).opens_s == 0 and first.at(11.8).opens_s == 12


def test_twice_as_fast_is_half_the_time(tmp_path: Path) -> None:
    """Of every distance, the life of tokens among them."""
    found = read_sessions(written(tmp_path, session("a", 0, 10, "client"), session("b", 6, 8, "client")), speed=2)
    assert found.lasted_s == 5
    assert [stay.opens_s for someone in found.people for stay in someone.stays] == [0, 3]
    assert found.people[0].stays[0].last_token_s == 30


def test_a_log_begins_once_everybody_is_there(tmp_path: Path) -> None:
    """However long it takes to set them up: who came in its first second is not late for that, and the storm lasts as much longer."""
    file = written(tmp_path, *[session(f"s{number}", number / 1000, 10) for number in range(300)])
    for flags, arrive_s in (({}, 3.0), ({"spawn_rate": 30.0}, 10.0), ({"run_time": 8}, 3.0), ({"num_users": 150}, 1.5)):
        scenario = plan_of(Namespace(**GIVEN | {"scenario": "replay", "sessions": str(file)} | flags), "http://a.test").scenario
        assert scenario.arrive_s == arrive_s < scenario.ahead_s
        assert scenario.run_s == flags.get("run_time", scenario.ahead_s + 10 + 5)


@given(st.lists(st.sampled_from(["Talker", "Replayer"]), max_size=40))
def test_each_place_is_handed_out_once(asked: list[str]) -> None:
    """In whatever order the users of all workers ask: those of each kind are counted through, and so are all together."""
    places = Places()
    told = [(kind, places.take(kind)) for kind in asked]
    assert [place.arrival for _, place in told] == list(range(len(asked)))
    for kind in set(asked):
        assert [place.number for of, place in told if of == kind] == list(range(asked.count(kind)))


@pytest.mark.parametrize("text", ["", "no json\n", '{"session": 1}\n', json.dumps(session("a", 0, namespace="/admin")) + "\n"])
def test_what_is_no_list_of_sessions_is_named(tmp_path: Path, text: str) -> None:
    """By its file, in one line."""
    file = tmp_path / "sessions.jsonl"
    file.write_text(text)
    with pytest.raises(Unreadable, match=r"sessions\.jsonl") as unreadable:
        read_sessions(file, speed=1)
    assert "\n" not in str(unreadable.value)
    with pytest.raises(Unreadable):
        read_sessions(tmp_path / "missing", speed=1)

"""`room:list` is in its order and has all that the user may see, though no list looks at all rooms."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.log import Position
from node.core.apply import apply
from node.core.commands import ListRooms
from node.core.events import Event, RoomCreated
from node.core.identity import Principal
from node.core.limits import Limits
from node.flow.queries import Queries
from node.flow.store import Store, open_store
from tests.support.chat_strategies import logs

USERS = ("ann", "bob", "cleo")


def principal(user: str) -> Principal:
    return Principal(user=user, expires_at=1 << 50)


async def listed(store: Store, user: str, query: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """The entries that the user gets."""
    queries = Queries(store, limits=Limits(), online=lambda user: False)
    answer = await queries.answer(ListRooms(query=query, limit=limit), principal(user))
    assert isinstance(answer, dict)
    rooms = answer["rooms"]
    assert isinstance(rooms, list)
    return rooms


def expected(store: Store, user: str, query: str) -> list[tuple[str, bool]]:
    """Names, and whether invited: from a look at all rooms."""
    found = []
    for room in store.rooms():
        member = store.member(room.name, user)
        inside = member is not None and member.role is not None
        invited = member is not None and member.invited_by is not None and not inside
        if (room.kind == "public" or inside or invited) and (query in room.name or query in room.title.casefold()):
            found.append((not inside, -room.changed_at, room.name, invited))
    return [(name, invited) for _, _, name, invited in sorted(found)]


async def _compare(path: Path, events: list[Event], stop: int) -> None:
    for some in (events[:stop], events[stop:]):
        async with open_store(path, epoch="one") as store:
            for number, event in enumerate(some):
                apply(store, event)
                store.advance(0, Position(store.position(0).offset + 1, 0))
                if number % 3 == 0:
                    await _same(store)
            await _same(store)


async def _same(store: Store) -> None:
    for user in USERS:
        for query in ("", "d", "hall", "nothing"):
            wanted = expected(store, user, query)
            got = [(entry["room"], entry.get("invited", False)) for entry in await listed(store, user, query)]
            assert got == wanted
            assert [entry["room"] for entry in await listed(store, user, query, 2)] == [name for name, _ in wanted[:2]]


@settings(max_examples=60)
@given(logs, st.integers(0, 30))
def test_a_list_is_what_a_look_at_all_rooms_finds(events: list[Event], stop: int) -> None:
    """After any log, half of it read from the file: the same rooms in the same order, also when only some are wanted."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_compare(Path(folder) / "model.db", events, min(stop, len(events))))


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """How many Python functions are called meanwhile."""
    calls = [0]

    def count(frame: FrameType, event: str, argument: Any) -> None:
        calls[0] += event == "call"

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def _work_of_a_list(path: Path) -> tuple[int, int]:
    async with open_store(path, epoch="one") as store:
        for number in range(3_000):
            room = f"r{number}"
            apply(store, RoomCreated(id=room, at=number, by="zoe", room=room, title=room, kind="public"))
        store.room_order.level()
        apply(store, RoomCreated(id="new", at=5_000, by="zoe", room="new", title="new", kind="public"))
        with counted_calls() as first:
            assert [entry["room"] for entry in await listed(store, "ann", limit=2)] == ["new", "r2999"]
        with counted_calls() as searched:
            assert await listed(store, "ann", "nothing") == []
        return first[0], searched[0]


def test_a_list_does_not_look_at_all_rooms(tmp_path: Path) -> None:
    """Among 3,000 rooms a list calls fewer functions than there are rooms, by far; a query that finds nothing, too."""
    first, searched = asyncio.run(_work_of_a_list(tmp_path / "model.db"))
    assert 0 < first < 300
    assert 0 < searched < 300

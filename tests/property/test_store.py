"""The read model in SQLite answers as the plain view does, whatever the log, whenever it was written, closed or copied."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.log import Position
from node.core.apply import apply, idempotency_key
from node.core.events import Event
from node.core.memory_view import MemoryView
from node.flow import offline
from node.flow.store import Store, open_store
from tests.support.chat_strategies import logs

PARTITION = 3
ROOMS, USERS, IDS = ("hall", "den", "dm"), ("ann", "bob", "cleo", "dan"), ("m1", "m2", "m3")
SESSIONS, JTIS = ("s1", "s2", "s3"), ("j1", "j2")


async def _follow(path: Path, events: list[Event], stops: set[int], view: MemoryView) -> None:
    """Apply the events to both views, writing at some places and closing the file at others; then compare all answers."""
    start = 0
    for stop in [*sorted(stops), len(events)]:
        async with open_store(path, epoch="one") as store:
            assert store.position(PARTITION).offset == start
            for offset, event in enumerate(events[start:stop], start + 1):
                if offset % 3 == 0:
                    store.expect([event.id, idempotency_key(event)], [("hall", 2), ("nowhere", 1)])
                one, other = apply(view, event), apply(store, event)
                assert one == other
                store.advance(PARTITION, Position(offset, offset))
                store.expect(())
                if offset % 5 == 0:
                    await store.flush()
            for _ in range(2):
                _same(store, view)
                for at in {moment for event in events[:stop] for moment in (event.at - 1, event.at, event.at + 5_000)}:
                    assert await store.sessions(at) == view.sessions_at(at)
                await store.flush()
        start = max(start, stop)


def _same(store: Store, view: MemoryView) -> None:
    for room in ROOMS:
        assert store.room(room) == view.room(room)
        assert store.members(room) == view.members(room)
        assert store.member_count(room) == view.member_count(room)
        entries = [(entry.name, msgspec.json.encode(entry.payload)) for entry in view.timeline(room)]
        assert store.timeline(room, after=0, limit=1_000) == entries
        assert store.timeline(room, after=1, limit=2, until=4) == entries[1:4][:2]
        messages = [found for seq in range(len(entries) + 2) if (found := view.message(room, seq)) is not None]
        assert [store.message(room, message.seq) for message in messages] == messages
        assert all((store.message(room, seq) is None) == (view.message(room, seq) is None) for seq in range(-1, len(entries) + 2))
        assert store.messages_after(room, 0, 1_000) == messages
        assert store.messages_before(room, len(entries) + 1, 2) == messages[-2:]
        assert store.messages_before(room, 4, 1_000) == [message for message in messages if message.seq < 4]
        for one in IDS:
            assert store.find_message(room, one) == view.find_message(room, one)
            assert store.has_message(room, one) == view.has_message(room, one)
            assert [store.find_message(room, one, by) for by in USERS] == [view.find_message(room, one, by) for by in USERS]
    for user in USERS:
        assert sorted(store.rooms_of(user)) == sorted(view.rooms_of(user))
        assert store.withdrawals(user) == view.withdrawals(user)
        assert {one.session for one in store.open_sessions_of(user)} == {one.session for one in view.open_sessions_of(user)}
    for session in SESSIONS:
        assert store.session(session) == view.session(session)
        assert store.revoked_session(session) == view.revoked_session(session)
    assert [store.revoked_jti(jti) for jti in JTIS] == [view.revoked_jti(jti) for jti in JTIS]
    assert {one.session: one for one in store.open_sessions()} == {one.session: one for one in view.open_sessions()}


@settings(max_examples=150)
@given(logs, st.sets(st.integers(0, 30), max_size=3))
def test_the_store_is_the_plain_view(events: list[Event], stops: set[int]) -> None:
    """Any log, written and reopened at any places, leaves the same answers and effects as in memory."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_follow(Path(folder) / "model.db", events, {stop for stop in stops if stop <= len(events)}, MemoryView()))


@settings(max_examples=40)
@given(logs, st.integers(0, 30))
def test_a_snapshot_and_the_tail_are_the_whole(events: list[Event], cut: int) -> None:
    """A restored snapshot that follows the rest of the log has no difference to a read model that saw all of it."""

    async def fold(path: Path, some: list[Event]) -> None:
        async with open_store(path, epoch="one") as store:
            for offset, event in enumerate(some, store.position(PARTITION).offset + 1):
                apply(store, event)
                store.advance(PARTITION, Position(offset, offset))

    with tempfile.TemporaryDirectory() as folder:
        whole, part, file, restored = (Path(folder) / name for name in ("whole.db", "part.db", "file", "restored.db"))
        asyncio.run(fold(whole, events))
        asyncio.run(fold(part, events[:cut]))
        offline.snapshot(part, file, lambda done, total: None)
        manifest = offline.restore(file, restored, lambda done, total: None)
        assert manifest.positions == ({PARTITION: min(cut, len(events))} if events[:cut] else {})
        asyncio.run(fold(restored, events[cut:]))
        assert offline.differences(whole, restored, now=0) == []

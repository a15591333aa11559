"""Who is told that somebody comes or goes, and when. Time is in the test's hand."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from broker.memory import NoPeers
from node.core.apply import apply
from node.core.commands import CreateRoom, JoinRoom
from node.core.effects import Applied, UserSessionsChanged
from node.core.events import EndReason, Event, SessionClosed, SessionOpened
from node.core.limits import Limits
from node.flow.presence import GRACE_S, RETURN_S, SLICE_S, Presence
from tests.support.core import FOR_EVER, World
from tests.support.stepped_loop import SteppedLoop

HERE = "n1"
Told = list[tuple[str, bool]]


class Hall:
    """One room with some people in it, on one node that tells them of one another."""

    def __init__(self, people: Iterable[str], *, takes_s: float = 0.0) -> None:
        """`takes_s`: for telling of one person."""
        self.loop, self.world, self.told, self._takes_s, self._opened = SteppedLoop(), World(), Told(), takes_s, 0
        self.people = list(people)
        assert isinstance(self.world.do("host", CreateRoom(room="hall")), Applied)
        for user in self.people:
            assert isinstance(self.world.do(user, JoinRoom(room="hall")), Applied)
        self.presence = self.loop.run_until_complete(self._made())

    async def _made(self) -> Presence:
        return Presence(
            node=HERE,
            view=self.world.view,
            signals=NoPeers(),
            limits=Limits(presence_members=10_000),
            clock=lambda: self.world.now,
            state=dict,
            tell_users=self._tell,
            deliver=lambda room, name, payload: None,
            drain=lambda: None,
        )

    def _tell(self, users: Iterable[str], name: str, payload: dict[str, Any]) -> None:
        assert name == "presence"
        assert set(users) == {"host", *self.people}
        self.told.append((payload["user"], payload["online"]))
        self.loop.now += self._takes_s

    def come(self, user: str) -> str:
        """A session of theirs opens: its name."""
        self._opened += 1
        session = f"s{self._opened}"
        opened = SessionOpened(
            id=f"o{session}", at=1, by=user, session=session, node=HERE, namespace="/", transport="websocket", expires_at=FOR_EVER
        )
        self._happens(opened)
        return session

    def go(self, user: str, session: str, reason: EndReason) -> None:
        """A session of theirs ends."""
        self._happens(SessionClosed(id=f"c{session}", at=2, by=user, session=session, reason=reason))

    def _happens(self, event: Event) -> None:
        for effect in apply(self.world.view, event):
            if isinstance(effect, UserSessionsChanged):
                self.presence.sessions_changed(effect.user, effect.ended)

    def passes(self, seconds: float) -> Told:
        """Let this time pass; what is told in it."""
        self.loop.now += seconds
        self.loop.settle()
        told, self.told = self.told, Told()
        return told


@pytest.fixture
def hall() -> Iterator[Hall]:
    """Ann and Bob."""
    hall = Hall(["ann", "bob"])
    yield hall
    hall.presence.close()
    hall.loop.close()


@pytest.mark.parametrize(
    ("reason", "grace_s"),
    [("client", GRACE_S), ("transport", GRACE_S), ("revoked", GRACE_S), ("token_expired", RETURN_S), ("draining", RETURN_S)],
)
def test_who_goes_is_told_to_be_gone_once_he_does_not_come_back(hall: Hall, reason: EndReason, grace_s: float) -> None:
    """Soon where he went, or was put out for good; later where the cluster put him out, so that he may take his turn to come back."""
    session = hall.come("bob")
    assert hall.passes(0) == [("bob", True)]
    hall.go("bob", session, reason)
    assert hall.passes(grace_s - 0.1) == []
    assert hall.presence.online("bob")
    session = hall.come("bob")
    assert hall.passes(2 * RETURN_S) == []  # he was never away
    hall.go("bob", session, reason)
    assert hall.passes(grace_s - 0.1) == []
    assert hall.passes(0.2) == [("bob", False)]
    assert not hall.presence.online("bob")


def test_that_a_crowd_is_gone_is_told_bit_by_bit() -> None:
    """Each once; never for longer at a time than a slice and one more, and between two of them there is as much time for all else."""
    crowd = [f"user-{number}" for number in range(100)]
    hall = Hall(crowd, takes_s=SLICE_S / 4)
    sessions = {user: hall.come(user) for user in crowd}
    assert hall.passes(0) == [(user, True) for user in crowd]
    for user, session in sessions.items():
        hall.go(user, session, "client")
    hall.loop.now += GRACE_S
    offline = Told()
    while told := hall.passes(SLICE_S):
        assert len(told) <= 5
        offline += told
    assert sorted(offline) == sorted((user, False) for user in crowd)
    hall.loop.close()


def test_who_is_back_before_it_is_told_was_never_away() -> None:
    """Nobody has heard that he was gone, so there is nothing to tell of his return."""
    hall = Hall(["ann", "bob", "cid", "dan"], takes_s=2 * SLICE_S)
    sessions = {user: hall.come(user) for user in hall.people}
    hall.passes(0)
    for user, session in sessions.items():
        hall.go(user, session, "client")
    told = hall.passes(GRACE_S + 0.1)
    assert len(told) == 1  # that takes its time
    back = next(user for user in hall.people if (user, False) not in told)
    hall.come(back)
    for _ in range(10):
        told += hall.passes(SLICE_S)
    assert sorted(told) == [(user, False) for user in hall.people if user != back]
    assert hall.presence.online(back)
    hall.loop.close()


def test_nothing_is_told_of_a_node_that_closes(hall: Hall) -> None:
    """Its timers end with it."""
    session = hall.come("bob")
    assert hall.passes(0) == [("bob", True)]
    hall.go("bob", session, "client")
    hall.presence.close()
    assert hall.passes(2 * RETURN_S) == []
    assert asyncio.all_tasks(hall.loop) == set()

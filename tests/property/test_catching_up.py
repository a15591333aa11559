"""A client of the load test puts into its place what the protocol keeps back, and mends nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.catching_up import CatchingUp
from loadtest.wire import Answer, Replay, RoomEvent

Draw = st.DataObject


def event(seq: int) -> RoomEvent:
    return RoomEvent(room="r", seq=seq, event="message", id=f"m{seq}")


def seqs(events: list[RoomEvent]) -> list[int]:
    return [one.seq for one in events]


class Server:
    """The room as the server has it, and a client that is slow now and then: what is kept back is asked for page by page."""

    def __init__(self, data: Draw, page: int) -> None:
        self._data, self._page = data, page
        self.client, self.seen, self.room = CatchingUp(), list[int](), 0
        self._kept_back: int | None = None
        self._ask: int | None = None  # after which seq the client asks, while its answer is still to come

    def happen(self) -> None:
        """One thing that may happen now."""
        choices = ["event", "slow" if self._kept_back is None else "drained"] + ["answer"] * (self._ask is not None)
        match self._data.draw(st.sampled_from(choices)):
            case "event":
                self.room += 1
                if self._kept_back is None:
                    self.seen += seqs(self.client.live(event(self.room)))
            case "slow":
                self._kept_back = self.room
            case "drained":
                self.drain()
            case "answer":
                self.answer()

    def drain(self) -> None:
        """The socket is empty again: the room is told to be asked for, where something was left out."""
        kept_back, self._kept_back = self._kept_back, None
        if kept_back is not None and kept_back < self.room:
            after = self.client.resync("r", kept_back)
            self._ask = self._ask if after is None else after

    def answer(self) -> None:
        """The answer to what was asked; it has what is in the room by now."""
        assert self._ask is not None
        last = min(self.room, self._ask + self._page)
        page = Answer(ok=True, events=[event(seq) for seq in range(self._ask + 1, last + 1)], complete=last == self.room)
        events, self._ask = self.client.answered("r", page)
        self.seen += seqs(events)

    def finish(self) -> None:
        """Until nothing is to come."""
        self.drain()
        while self._ask is not None:
            self.answer()


@given(st.data(), st.integers(1, 4))
def test_what_was_kept_back_has_its_place(data: Draw, page: int) -> None:
    """However slow phases, pages and live events mix: every event once, in order, and level at the end."""
    server = Server(data, page)
    for _ in range(data.draw(st.integers(0, 25))):
        server.happen()
    server.finish()
    assert server.seen == list(range(1, server.room + 1))
    assert server.client.level


@given(st.lists(st.integers(1, 9)))
def test_live_events_go_through_as_they_came(came: list[int]) -> None:
    """Holes, repeats and swaps that nothing explains are left to the checker."""
    client = CatchingUp()
    assert [seq for each in came for seq in seqs(client.live(event(each)))] == came


@given(st.integers(0, 9), st.integers(0, 5), st.integers(0, 5))
def test_a_resume_is_level_once_every_replay_is_whole(after: int, first: int, rest: int) -> None:
    """A replay that is not complete is asked on for, from where it ended; live events wait meanwhile."""
    client = CatchingUp({"r", "other"})
    client.replayed(Replay(room="other", after=1, to=1, complete=True, events=[]))
    assert not client.level
    to = after + first
    events, ask = client.replayed(
        Replay(room="r", after=after, to=to, complete=rest == 0, events=[event(seq) for seq in range(after + 1, to + 1)])
    )
    assert seqs(events) == list(range(after + 1, to + 1))
    if rest:
        assert ask == to and not client.level
        assert client.live(event(to + rest + 1)) == []
        missed = [event(seq) for seq in range(to + 1, to + rest + 1)]
        events, ask = client.answered("r", Answer(ok=True, events=missed, complete=True))
        assert seqs(events) == list(range(to + 1, to + rest + 2))
    assert ask is None and client.level


def test_who_may_not_ask_gets_what_came_live() -> None:
    """A refusal ends the asking: the hole stays, for the checker."""
    client = CatchingUp()
    assert client.resync("r", 4) == 4
    assert client.live(event(9)) == []
    events, ask = client.answered("r", Answer(ok=False))
    assert (seqs(events), ask, client.level) == ([9], None, True)

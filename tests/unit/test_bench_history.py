"""The past that the benchmarks make up is one that a cluster could have had."""

from bench.history import History
from node.core.apply import apply
from node.core.effects import Applied, Deliver
from node.core.events import MessagePosted, ReadMarked, RoomEvent
from node.core.memory_view import MemoryView

EVENTS = 6_000


def small() -> History:
    return History(rooms=12, users=60, seed=7)


def test_every_event_takes_effect() -> None:
    """Each event is applied once and, in a room, takes the next seq, so that a fold of them costs what real ones cost."""
    view = MemoryView()
    seqs: dict[str, int] = {}
    for event in small().events(EVENTS):
        effects = apply(view, event)
        (applied,) = (effect for effect in effects if isinstance(effect, Applied))
        assert applied.event == event.id and not applied.duplicate
        if isinstance(event, RoomEvent) and not isinstance(event, ReadMarked):
            seqs[event.room] = seqs.get(event.room, 0) + 1
            assert [effect.seq for effect in effects if isinstance(effect, Deliver)] == [seqs[event.room]]
        elif isinstance(event, ReadMarked):
            assert any(isinstance(effect, Deliver) for effect in effects)


def test_the_same_seed_is_the_same_past() -> None:
    """Two runs compare: they measure the same log."""
    assert list(small().events(500)) == list(small().events(500))


def test_it_is_mostly_talk() -> None:
    """The mix is that of a chat, and every kind of event of a room's daily life is in it."""
    events = list(small().events(EVENTS))
    assert len(events) == EVENTS
    assert sum(isinstance(event, MessagePosted) for event in events) > EVENTS * 0.7
    assert len({type(event) for event in events}) == 10

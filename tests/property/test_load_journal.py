"""What a client noted reaches the checker as it was noted, over a process's border too."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from loadtest.checker import Ack, Sight, Stay, Watch, check
from loadtest.journal import Journal, Names, Pages

ROOMS = st.sampled_from(["a", "b"])
SEQS, TIMES = st.integers(1, 50), st.integers(0, 2**48)
SIGHTS = st.builds(Sight, room=ROOMS, seq=SEQS, event=st.text(max_size=4), at=TIMES, expires_at=TIMES)
ACKS = st.builds(Ack, room=ROOMS, seq=SEQS, event=st.text(max_size=4), said_at=TIMES)


@given(st.lists(st.tuples(st.lists(SIGHTS, max_size=4), st.lists(ACKS, max_size=3)), min_size=1, max_size=3))
def test_the_checker_gets_what_was_noted(noted: list[tuple[list[Sight], list[Ack]]]) -> None:
    """Sights and acks in their order and with all their fields, of several journals that share their names."""
    names, journals = Names(), []
    for number, (sights, acks) in enumerate(noted):
        journals.append(journal := Journal(f"c{number}", names))
        for sight in sights:
            journal.saw(sight.room, sight.seq, sight.event, at=sight.at, expires_at=sight.expires_at)
        for ack in acks:
            journal.acked(ack.room, ack.seq, ack.event, said_at=ack.said_at)
    packed = msgspec.msgpack.encode(([journal.pages() for journal in journals], names.texts))
    pages, texts = msgspec.msgpack.decode(packed, type=tuple[list[Pages], list[str]])
    for number, (sights, acks) in enumerate(noted):
        history = pages[number].history(Names(texts))
        assert (history.client, list(history.sights), list(history.acks)) == (f"c{number}", sights, acks)
        assert len(history.sights) == journals[number].seen == len(sights)
        assert history.sights[:2] == sights[:2] and list(history.sights[-1:]) == sights[-1:]


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_what_is_owed_is_what_was_watched(before: int, during: int, after: int) -> None:
    """From the seq at which it came until the one at which it left, each time anew; the rest is nobody's loss."""
    journal = Journal("c", Names())
    journal.watch("r", after=before)
    journal.watch("r", after=0)  # known already
    for seq in range(before + 1, before + during + 1):
        journal.saw("r", seq, f"e{seq}", at=1, expires_at=2)
    assert journal.cursors == {"r": before + during}
    journal.unwatch("r", until=before + during)
    journal.unwatch("r", until=7)  # not watched any more
    again = before + during + after
    journal.watch("r", after=again)
    watches = [Watch(room="r", after=before, until=before + during), Watch(room="r", after=again)]
    assert journal.pages().watches == watches
    assert check([journal.pages().history(Names(["", "r", *(f"e{n}" for n in range(before + 1, before + during + 1))]))]).ok


def test_who_goes_is_owed_nothing_more() -> None:
    """Of any room, from what it has seen on."""
    journal = Journal("c", Names())
    journal.watch("a", after=3)
    journal.watch("b", after=0)
    journal.saw("b", 1, "x", at=1, expires_at=2)
    journal.end()
    assert journal.pages().watches == [Watch(room="a", after=3, until=3), Watch(room="b", after=0, until=1)]
    assert journal.cursors == {}


def test_what_is_known_of_rooms_is_the_furthest() -> None:
    """Of acks and of what was seen, whichever is further."""
    journal = Journal("c", Names())
    journal.watch("r", after=2)
    journal.saw("r", 3, "x", at=1, expires_at=2)
    journal.acked("r", 9, "y")
    assert max(seq for room, seq in journal.known() if room == "r") == 9


def test_what_one_client_can_tell_by_itself_is_counted_at_once() -> None:
    """What was passed over, and what came again or too late, before any checker looks."""
    journal = Journal("c", Names())
    journal.watch("r", after=0)
    for seq in (1, 4, 3, 4, 5):
        journal.saw("r", seq, f"e{seq}", at=1, expires_at=2)
    journal.saw("unwatched", 9, "x", at=1, expires_at=2)
    assert (journal.skipped, journal.repeated, journal.cursors) == (2, 2, {"r": 5})


def test_stays_are_handed_over() -> None:
    """Each from its beginning to its end, with the right that it had at last, and when it was told of its end; the open one has no end."""
    names = Names()
    journal = Journal("c", names)
    journal.left(at=1)  # there was none
    journal.expired(at=1)
    journal.entered(at=10, ends_at=20)
    journal.stays_until(30)
    journal.left(at=29)
    journal.left(at=99)  # it had ended already
    journal.expired(at=99)
    journal.entered(at=40, ends_at=50)
    journal.expired(at=51)
    journal.expired(at=52)  # it was told already
    journal.stays_until(55)
    journal.left(at=60)
    journal.entered(at=70, ends_at=80)
    assert journal.pages().history(names).stays == [
        Stay(entered_at=10, ends_at=30, left_at=29),
        Stay(entered_at=40, ends_at=55, left_at=60, expired_at=51),
        Stay(entered_at=70, ends_at=80),
    ]

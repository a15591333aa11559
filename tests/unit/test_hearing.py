"""When a partition is deaf: something is known to stand in it, and nothing comes although everything that came was taken."""

import pytest

from broker.rabbitmq_hearing import CLAIM_S, DEAF_S, Hearing

LATE_S = DEAF_S + 0.1


class Reader:
    """A follower that waits, and has read nothing."""

    def __init__(self) -> None:
        self.waits, self.offset = True, -1
        self.kept_out: str | None = None


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def hearing(reader: Reader) -> Hearing:
    hearing = Hearing()
    hearing.begin(reader)
    return hearing


def looks_deaf(hearing: Hearing, now: float) -> bool:
    hearing.look(now)
    return hearing.deaf


def deaf_at(hearing: Hearing, *moments: float) -> list[bool]:
    return [looks_deaf(hearing, moment) for moment in moments]


def test_where_nothing_is_known_to_stand_nothing_is_missing(hearing: Hearing) -> None:
    """Silence alone is not deafness, however long it is."""
    assert deaf_at(hearing, 0, 10, 1000) == [False, False, False]


def test_our_own_message_that_does_not_come_is_missed(hearing: Hearing) -> None:
    """It is late once it has been missing for longer than the limit, from the first look on."""
    hearing.confirmed(1)
    assert deaf_at(hearing, 0, DEAF_S, LATE_S) == [False, False, True]


def test_our_own_message_that_comes_is_not_missed(hearing: Hearing) -> None:
    """With it came everything that we had appended before it; what we append later is missed anew."""
    hearing.confirmed(1)
    hearing.confirmed(2)
    assert not looks_deaf(hearing, 0)
    hearing.came(2)
    assert deaf_at(hearing, LATE_S, 2 * LATE_S) == [False, False]
    hearing.confirmed(3)
    assert deaf_at(hearing, 3 * LATE_S, 4 * LATE_S) == [False, True]


def test_a_message_that_comes_before_its_confirm_is_not_missed(hearing: Hearing) -> None:
    """The confirm and the message come over different connections, in any order."""
    hearing.came(1)
    hearing.confirmed(1)
    assert deaf_at(hearing, 0, LATE_S) == [False, False]


def test_what_another_node_has_read_is_missed(hearing: Hearing, reader: Reader) -> None:
    """Another node that goes on saying that it is further makes us deaf; one that is no further does not."""
    reader.offset = 7
    hearing.claimed(7, 0)
    assert deaf_at(hearing, 0, LATE_S) == [False, False]
    hearing.claimed(8, LATE_S)
    assert deaf_at(hearing, LATE_S, 2 * LATE_S) == [False, True]
    reader.offset = 8
    assert not looks_deaf(hearing, 2 * LATE_S)


def test_a_claim_that_nobody_repeats_is_forgotten(hearing: Hearing) -> None:
    """A node that was ahead in a partition that was lost since, and has gone, makes nobody deaf for ever."""
    hearing.claimed(1_000_000, 0)
    hearing.claimed(3, CLAIM_S - 1)
    assert deaf_at(hearing, CLAIM_S - LATE_S, CLAIM_S) == [False, True]
    assert deaf_at(hearing, CLAIM_S + 0.1, CLAIM_S + 0.1 + LATE_S) == [False, False]
    hearing.claimed(3, CLAIM_S + 1)
    assert deaf_at(hearing, CLAIM_S + 1, CLAIM_S + 1 + LATE_S) == [False, True]


def test_who_goes_on_reading_is_not_deaf(hearing: Hearing, reader: Reader) -> None:
    """A node far behind that reads as fast as the broker gives has nothing waiting at each look, and is not deaf: it moves."""
    for second in range(60):
        hearing.claimed(1_000_000, second)
        reader.offset += 1000
        assert not looks_deaf(hearing, second)
    hearing.claimed(1_000_000, 60)
    assert deaf_at(hearing, 60, 62) == [False, True]


def test_who_has_not_taken_what_came_is_not_deaf(hearing: Hearing, reader: Reader) -> None:
    """A reader that is busy, or has no connection, may find it among what waits for him."""
    hearing.confirmed(1)
    reader.waits = False
    assert deaf_at(hearing, 0, LATE_S, 10 * LATE_S) == [False, False, False]
    reader.waits = True
    assert deaf_at(hearing, 10 * LATE_S, 11 * LATE_S) == [False, True]


def test_nobody_who_follows_misses_nothing(hearing: Hearing, reader: Reader) -> None:
    """What was appended before somebody followed, or is while nobody does, is not expected to come."""
    hearing.confirmed(1)
    hearing.end(reader)
    hearing.confirmed(2)
    assert deaf_at(hearing, 0, LATE_S) == [False, False]
    hearing.begin(Reader())
    assert deaf_at(hearing, 0, LATE_S) == [False, False]
    hearing.end(reader)
    hearing.confirmed(3)
    assert deaf_at(hearing, 2 * LATE_S, 3 * LATE_S) == [False, True]


def test_another_connection_alone_is_no_cure(hearing: Hearing, reader: Reader) -> None:
    """Who was deaf is so until the message comes, or another one does; the next connection has its time before it is given up."""
    hearing.confirmed(1)
    assert deaf_at(hearing, 0, LATE_S) == [False, True] and hearing.silent
    reader.waits = False
    assert looks_deaf(hearing, 2 * LATE_S) and not hearing.silent
    reader.waits = True
    assert looks_deaf(hearing, 2 * LATE_S) and not hearing.silent
    assert looks_deaf(hearing, 3 * LATE_S) and hearing.silent
    reader.offset = 0
    assert not looks_deaf(hearing, 3 * LATE_S) and not hearing.silent
    assert looks_deaf(hearing, 4 * LATE_S)
    hearing.came(1)
    assert not looks_deaf(hearing, 4 * LATE_S)


def test_who_is_kept_out_for_long_is_said_to_be(hearing: Hearing, reader: Reader) -> None:
    """In the reader's latest words, once it has lasted for longer than the limit; a moment in which it reads begins anew."""
    assert hearing.kept_out(0) is None
    reader.kept_out = "refused"
    assert [hearing.kept_out(moment) for moment in (1, 1 + DEAF_S)] == [None, None]
    reader.kept_out = "refused again"
    assert hearing.kept_out(1 + LATE_S) == "refused again"
    reader.kept_out = None
    assert hearing.kept_out(2 + LATE_S) is None
    reader.kept_out = "refused"
    assert [hearing.kept_out(moment) for moment in (10, 10 + DEAF_S, 10 + LATE_S)] == [None, None, "refused"]
    hearing.end(reader)
    assert hearing.kept_out(11 + LATE_S) is None

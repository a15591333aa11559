"""What each sender has said: whatever is sent again, each record counts once, in order, and what is missing is noticed."""

from hypothesis import given
from hypothesis import strategies as st

from broker.manager_senders import Senders
from broker.manager_wire import address_of, number_of, to_addresses, to_record

ADDRESSES = to_addresses([address_of("/", "room")])


def records(first: int, last: int) -> list[bytes]:
    return [to_record(ADDRESSES, number, b"") for number in range(first, last + 1)]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5), st.lists(st.integers(0, 4), max_size=2)), max_size=20))
def test_sent_again_is_heard_once(messages: list[tuple[int, int, list[int]]]) -> None:
    """A sender who does not know whether his last messages arrived sends them again, and more with them: all is heard once, in order.

    So it is where a copy was carried out in part only.
    """
    senders, heard, confirmed, written = Senders(), list[int](), 0, 0
    for more, taken_back, copies in messages:
        confirmed = max(confirmed, written - taken_back)
        written = max(written, confirmed + more)
        for given_up in [*copies, 0]:
            fresh, missing = senders.fresh("a", records(confirmed + 1, written))
            assert missing == 0
            carried_out = fresh[: len(fresh) - len(fresh) * given_up // 4]
            heard += map(number_of, carried_out)
            if carried_out:
                senders.heard("a", number_of(carried_out[-1]))
    assert heard == list(range(1, written + 1))


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 20))
def test_a_hole_is_counted(begun: int, said: int, hole: int) -> None:
    """Of a sender whom one has heard, as many as are missing are said to be; who is new has begun with what comes."""
    senders = Senders()
    assert senders.fresh("a", records(begun, begun + said - 1))[1] == 0
    senders.heard("a", begun + said - 1)
    for missing in (hole, 0):  # it is told once, although nothing behind it was carried out
        last = records(begun + said + hole, begun + said + hole)
        assert senders.fresh("a", last) == (last, missing)


def test_who_is_silent_for_long_is_forgotten() -> None:
    """There are never more than so many senders in memory, and those that were heard last stay."""
    senders = Senders(most=2)
    for sender in ("a", "b", "a", "c"):
        senders.fresh(sender, records(1, 1))
        senders.heard(sender, 1)
    assert senders.fresh("a", records(1, 1)) == ([], 0)
    assert senders.fresh("b", records(1, 1))[0] == records(1, 1)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4))
def test_a_strangers_message_is_nothing(junk: list[bytes]) -> None:
    """A message whose records are not numbered one after the other is no manager's."""
    fresh, missing = Senders().fresh("a", junk)
    assert missing == 0
    numbers = [number_of(record) for record in fresh]
    assert not fresh or numbers[-1] - numbers[0] + 1 == len(junk)

"""The no-loss checker finds each fault that is planted, and finds nothing in a run without one."""

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from loadtest.checker import KINDS, OUTSTAYED_MS, Ack, Fault, FaultKind, History, Sight, Stay, Watch, check, posted

Draw = st.DataObject
_replace = msgspec.structs.replace


@st.composite
def runs(draw: st.DrawFn) -> list[History]:
    """A faultless run: rooms with events, of which some were acked, and clients that saw them all, rooms interleaved at will."""
    clients = [f"c{n}" for n in range(draw(st.integers(2, 4)))]
    rooms: dict[str, list[tuple[str, bool]]] = {}  # event name of each seq, and whether it was acked
    for room in [f"r{n}" for n in range(draw(st.integers(1, 3)))]:
        authors = draw(st.lists(st.tuples(st.sampled_from(clients), st.booleans()), min_size=2, max_size=8))
        rooms[room] = [(posted(author, f"m{n}"), acked) for n, (author, acked) in enumerate(authors)]
    histories = []
    for client in clients:
        ways = [(room, seq) for room, events in rooms.items() for seq in range(1, len(events) + 1)]
        order = draw(st.permutations([room for room, _ in ways]))
        nexts = dict.fromkeys(rooms, 0)
        sights = []
        for room in order:
            nexts[room] += 1
            event = rooms[room][nexts[room] - 1][0]
            sights.append(Sight(room=room, seq=nexts[room], event=event, at=1_000, expires_at=2_000))
        acks = [
            Ack(room=room, seq=seq, event=event)
            for room, events in rooms.items()
            for seq, (event, acked) in enumerate(events, 1)
            if acked and event.startswith(f"{client}/")
        ]
        histories.append(History(client=client, acks=acks, sights=sights, watches=[Watch(room=room, after=0) for room in rooms]))
    return histories


def _is_acked(run: list[History], sight: Sight) -> bool:
    return any(ack.room == sight.room and ack.seq == sight.seq for history in run for ack in history.acks)


def _plant(run: list[History], at: int, sights: list[Sight]) -> list[History]:
    return [_replace(history, sights=sights) if n == at else history for n, history in enumerate(run)]


def _pick(data: Draw, run: list[History]) -> tuple[int, list[Sight], int]:
    """A client, what it saw, and one place in that."""
    at = data.draw(st.integers(0, len(run) - 1))
    sights = list(run[at].sights)
    return at, sights, data.draw(st.integers(0, len(sights) - 1))


def _only(run: list[History], kind: FaultKind, *, count: int = 1) -> tuple[Fault, ...]:
    """The faults found, after checking that they are of this kind alone and as many."""
    verdict = check(run)
    assert not verdict.ok
    assert verdict.counts == {**dict.fromkeys(KINDS, 0), kind: count}
    return verdict.faults


@given(runs())
def test_a_run_without_fault_has_none(run: list[History]) -> None:
    """Every client saw every event of its rooms once, in order: nothing is found, and everything is counted."""
    verdict = check(run)
    assert verdict.faults == ()
    assert verdict.ok
    assert verdict.acked == sum(len(history.acks) for history in run)
    assert verdict.seen == sum(len(history.sights) for history in run)


@given(runs(), st.data())
def test_an_event_that_did_not_arrive_is_lost_or_a_hole(run: list[History], data: Draw) -> None:
    """Dropped at one client: lost when it had been acked to anyone, else a hole, at the right place."""
    at, sights, place = _pick(data, run)
    dropped = sights.pop(place)
    acked = _is_acked(run, dropped)
    (fault,) = _only(_plant(run, at, sights), "lost" if acked else "hole")
    assert (fault.client, fault.room, fault.seq) == (run[at].client, dropped.room, dropped.seq)


@given(runs(), st.data())
def test_an_acked_event_that_nobody_saw_is_lost_for_everybody(run: list[History], data: Draw) -> None:
    """The ack alone is enough to know what was promised, even at the end of a room."""
    acks = [ack for history in run for ack in history.acks]
    assume(acks)
    gone = data.draw(st.sampled_from(acks))
    without = [
        _replace(history, sights=[sight for sight in history.sights if (sight.room, sight.seq) != (gone.room, gone.seq)])
        for history in run
    ]
    _only(without, "lost", count=len(run))


@given(runs(), st.data())
def test_an_event_that_came_twice_is_duplicated(run: list[History], data: Draw) -> None:
    """Repeated at once or much later, once is once too often."""
    at, sights, place = _pick(data, run)
    sights.insert(data.draw(st.integers(place + 1, len(sights))), sights[place])
    (fault,) = _only(_plant(run, at, sights), "duplicated")
    assert (fault.room, fault.seq) == (sights[place].room, sights[place].seq)


@given(runs(), st.data())
def test_an_event_with_two_seqs_is_duplicated(run: list[History], data: Draw) -> None:
    """One message that took a second seq, the same for all: everybody has it twice."""
    room, end = "r0", 1 + max(sight.seq for sight in run[0].sights if sight.room == "r0")
    again = data.draw(st.sampled_from([sight for sight in run[0].sights if sight.room == room]))
    twice = [_replace(history, sights=[*history.sights, _replace(again, seq=end)]) for history in run]
    _only(twice, "duplicated", count=len(run))


@given(runs(), st.data())
def test_an_event_that_came_after_a_later_one_is_out_of_order(run: list[History], data: Draw) -> None:
    """Two neighbours of one room that changed places."""
    at, sights, place = _pick(data, run)
    later = [n for n in range(place + 1, len(sights)) if sights[n].room == sights[place].room]
    assume(later)
    sights[place], sights[later[0]] = sights[later[0]], sights[place]
    (fault,) = _only(_plant(run, at, sights), "out_of_order")
    assert fault.seq == sights[later[0]].seq


@given(runs(), st.data())
def test_another_event_at_the_same_seq_is_a_disagreement(run: list[History], data: Draw) -> None:
    """One client has a different event where the others agree."""
    at, sights, place = _pick(data, run)
    assume(len(run) > 2 or _is_acked([history for n, history in enumerate(run) if n != at], sights[place]))
    sights[place] = _replace(sights[place], event="someone/else")
    (fault,) = _only(_plant(run, at, sights), "disagreeing")
    assert (fault.client, fault.event) == (run[at].client, "someone/else")


@given(runs(), st.data(), st.integers(1, 10_000), st.integers(0, 10_000))
def test_what_came_past_the_sessions_end_is_late(run: list[History], data: Draw, over: int, tolerance: int) -> None:
    """Later than `expires_at` by more than the tolerance, and only then."""
    at, sights, place = _pick(data, run)
    sights[place] = _replace(sights[place], at=sights[place].expires_at + over)
    planted = _plant(run, at, sights)
    _only(planted, "late")
    assert check(planted, tolerance_ms=tolerance).counts["late"] == (over > tolerance)


@given(runs(), st.data())
def test_who_left_is_owed_nothing_more(run: list[History], data: Draw) -> None:
    """A watch that ends, or begins later, takes what lies outside it off the bill."""
    at, sights, place = _pick(data, run)
    room, seq = sights[place].room, sights[place].seq
    cut = [sight for sight in sights if sight.room != room or sight.seq > seq]
    watches = [_replace(watch, after=seq) if watch.room == room else watch for watch in run[at].watches]
    joined_late = _replace(run[at], sights=cut, watches=watches)
    assert check([joined_late, *run[:at], *run[at + 1 :]]).ok
    kept = [sight for sight in sights if sight.room != room or sight.seq <= seq]
    watches = [_replace(watch, until=seq) if watch.room == room else watch for watch in run[at].watches]
    left_early = _replace(run[at], sights=kept, watches=watches)
    assert check([left_early, *run[:at], *run[at + 1 :]]).ok


@given(runs(), st.data(), st.integers(1, 10_000), st.integers(0, 10_000))
def test_who_is_let_in_past_the_tokens_end_is_accepted(run: list[History], data: Draw, over: int, tolerance: int) -> None:
    """By more than the tolerance, and only then; a session that begins in time and is left in time is none."""
    at, ends_at = data.draw(st.integers(0, len(run) - 1)), 2_000
    stays = [
        Stay(entered_at=1_000, ends_at=ends_at, left_at=ends_at + OUTSTAYED_MS),
        Stay(entered_at=ends_at + over, ends_at=ends_at),
    ]
    planted = [_replace(history, stays=stays) if n == at else history for n, history in enumerate(run)]
    assert _only(planted, "accepted")[0].client == run[at].client
    assert check(planted, tolerance_ms=tolerance).counts["accepted"] == (over > tolerance)


@given(runs(), st.data(), st.integers(1, 10_000), st.integers(0, 10_000))
def test_who_is_not_put_out_has_outstayed(run: list[History], data: Draw, over: int, tolerance: int) -> None:
    """Still connected long after the end, by more than the tolerance; one that was open when the storm ended is none."""
    at, ends_at = data.draw(st.integers(0, len(run) - 1)), 2_000
    stays = [
        Stay(entered_at=1_000, ends_at=ends_at, left_at=ends_at + OUTSTAYED_MS + over),
        Stay(entered_at=1_000, ends_at=ends_at),
    ]
    planted = [_replace(history, stays=stays) if n == at else history for n, history in enumerate(run)]
    assert _only(planted, "outstayed")[0].client == run[at].client
    assert check(planted, tolerance_ms=tolerance).counts["outstayed"] == (over > tolerance)


@given(runs(), st.data(), st.integers(1, 10_000), st.integers(0, 10_000))
def test_who_is_told_of_the_end_before_it_is_put_out_early(run: list[History], data: Draw, under: int, tolerance: int) -> None:
    """By more than the tolerance, and only then; who is told at the end or behind it, or goes before it untold, is not."""
    at, ends_at = data.draw(st.integers(0, len(run) - 1)), 20_000
    stays = [
        Stay(entered_at=1_000, ends_at=ends_at, left_at=ends_at - under),
        Stay(entered_at=1_000, ends_at=ends_at, left_at=ends_at + 100, expired_at=ends_at + data.draw(st.integers(0, 99))),
        Stay(entered_at=1_000, ends_at=ends_at, left_at=ends_at, expired_at=ends_at - under),
    ]
    planted = [_replace(history, stays=stays) if n == at else history for n, history in enumerate(run)]
    (fault,) = _only(planted, "early")
    assert (fault.client, fault.event) == (run[at].client, f"{under} ms too early")
    assert check(planted, tolerance_ms=tolerance).counts["early"] == (under > tolerance)


def _unnumbered(run: list[History]) -> list[History]:
    """The same of a server that gives no seq."""
    return [
        _replace(
            history,
            acks=[_replace(ack, seq=0) for ack in history.acks],
            sights=[_replace(sight, seq=0) for sight in history.sights],
        )
        for history in run
    ]


@given(runs(), st.data())
def test_what_has_no_seq_is_owed_by_its_name(run: list[History], data: Draw) -> None:
    """A faultless run has nothing; acked and not come is lost, come twice is duplicated; of order nothing is said."""
    plain = _unnumbered(run)
    verdict = check(plain)
    assert verdict.ok and verdict.acked == check(run).acked
    at, sights, place = _pick(data, plain)
    twice = [*sights, sights[place]]
    (fault,) = _only(_plant(plain, at, twice), "duplicated")
    assert fault.event == sights[place].event
    dropped = sights.pop(place)
    without = _plant(plain, at, sights)
    acked = any(ack.event == dropped.event and ack.room == dropped.room for history in plain for ack in history.acks)
    assert check(without).counts["lost"] == acked
    for change in ({"until": 0}, {"since": 1}):  # gone before the end; come after it was said
        watches = [[_replace(watch, **change) for watch in history.watches] for history in without]
        assert check([_replace(history, watches=some) for history, some in zip(without, watches, strict=True)]).ok


def test_the_verdict_reads_as_one_line() -> None:
    """What a storm prints at its end."""
    history = History(client="c", acks=[Ack(room="r", seq=1, event="c/a")], watches=[Watch(room="r", after=0)])
    assert str(check([history])) == (
        "1 clients, 1 acked, 0 seen: 1 lost, 0 hole, 0 duplicated, 0 out of order, 0 disagreeing, 0 late, 0 early, 0 accepted, 0 outstayed"
    )

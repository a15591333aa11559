"""What the checker makes of a server that says anything."""

from loadtest.checker import MOST_MISSING, Ack, History, Sight, Watch, check, posted


def test_a_server_that_names_any_seq_does_not_fill_the_memory() -> None:
    """What is missing is told up to a number, and is a fault all the same."""
    far = Ack(room="r", seq=10**15, event="a/1")
    one = History(client="one", acks=[far], sights=[], watches=[Watch(room="r", after=0)], stays=[])
    verdict = check([one])
    assert verdict.counts["hole"] == MOST_MISSING


def test_other_words_are_another_message() -> None:
    """Whoever is sent a text that its author did not say disagrees with him, and with those who were sent it."""
    said, other = posted("ann", "1", "hello"), posted("ann", "1", "hallo")
    sights = {"ann": said, "bob": said, "eve": other}
    histories = [
        History(
            client=name,
            acks=[Ack(room="r", seq=1, event=said)] if name == "ann" else [],
            sights=[Sight(room="r", seq=1, event=event)],
            watches=[Watch(room="r", after=0)],
            stays=[],
        )
        for name, event in sights.items()
    ]
    assert [(fault.kind, fault.client) for fault in check(histories).faults] == [("disagreeing", "eve")]

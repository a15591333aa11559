"""What each sender has said so far: what is sent again after a lost confirm is passed over, what is missing is noticed. Pure."""

from collections import OrderedDict
from collections.abc import Sequence

from broker.manager_wire import number_of

MOST_SENDERS = 4_096  # those that have been silent the longest are forgotten


class Senders:
    """A sender numbers its records from 1 on, without a hole, and sends again only what it sent last: all of it, in its order."""

    def __init__(self, most: int = MOST_SENDERS) -> None:
        self._last: OrderedDict[str, int] = OrderedDict()
        self._most = most

    def fresh(self, sender: str, records: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
        """Those of the records of a message that are new, and how many of this sender's are missing before them; these are told once.

        Who was never heard of has begun with what comes. A message with a record that is not numbered is no manager's: nothing in it is.
        The records stay new until they are `heard`.
        """
        first, last = number_of(records[0]), number_of(records[-1])
        if last - first + 1 != len(records) or first < 1:
            return (), 0
        known = self._last.pop(sender, first - 1)
        self._last[sender] = max(known, first - 1)
        if len(self._last) > self._most:
            self._last.popitem(last=False)
        if first > known:
            return records, first - known - 1
        return records[known - first + 1 :], 0

    def heard(self, sender: str, number: int) -> None:
        """What this sender has said up to there is known, and not new again. Called for who was in `fresh` last."""
        self._last[sender] = max(self._last[sender], number)

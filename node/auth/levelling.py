"""Which moment of its refresh window a session renews at: the emptiest there is, so that a crowd renews as a plateau.

Pure: times (ms) go in, moments come out. What was promised to one session is never moved for another, because it has been told.
"""

SLOT_MS = 125  # two moments in one slot are as good as equal; eight make a second, so that whole seconds are levelled too
TAIL = 16  # one part in so many of a window is left free at its end, so that a renewal that was asked for late still arrives


def refresh_window(*, now: int, issued_at: int | None, expires_at: int, window_ms: int) -> tuple[int, int]:
    """The moments `[first, end)` at which a session may be asked to renew; `end` is `first` where there is room for one only.

    The window is the last `window_ms` before the end, never more than half of the token's life (what is left of it, where the
    token does not say when it was issued), and never in the past. By the token's life and not by what is left of it, tokens that
    were minted together have one window, whenever their sessions came.
    """
    since = now if issued_at is None else min(issued_at, now)
    first = max(expires_at - min(window_ms, max(0, expires_at - since) // 2), min(now, expires_at))
    return first, expires_at - -(-(expires_at - first) // TAIL)


class Levels:
    """How many sessions renew in each slot of time: a tree of pairs over the slots that are in use.

    Each node knows the sum of its slots and the least of them. It is as high as the longest window is wide, so that `emptiest`,
    `add` and `release` cost O(log window), however many sessions there are; memory grows with the sessions.
    """

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        height = (window_ms // SLOT_MS).bit_length() + 1
        self._sums: list[dict[int, int]] = [{} for _ in range(height)]  # by height: place -> count; what is absent is 0
        self._least: list[dict[int, int]] = [self._sums[0], *({} for _ in range(height - 1))]
        self.seconds: dict[int, int] = {}  # how many renew in each second since the epoch, where any do

    def add(self, at: int) -> None:
        """Count a session that renews at `at`."""
        self._change(at, 1)

    def release(self, at: int) -> None:
        """Take back one `add`."""
        self._change(at, -1)

    def emptiest(self, first: int, end: int) -> int:
        """The moment in `[first, end)`, or `first` where that is empty, with the fewest others in its slot.

        Only slots wholly inside count, where there are any. Of slots that are equally empty, the one in the emptiest surroundings.
        """
        low, high = -(-first // SLOT_MS), end // SLOT_MS
        if low >= high:  # no whole slot: the two that the window touches, at most
            parts = [(first, min(end, low * SLOT_MS)), (max(first, low * SLOT_MS), end)]
            pieces = [(a, b) for a, b in parts if a < b] or [(first, first + 1)]
            return _within(*min(pieces, key=lambda piece: self._sums[0].get(piece[0] // SLOT_MS, 0)), self._sums[0])
        height, place = min(_cover(low, high, len(self._sums)), key=self._crowding)
        while height:
            height -= 1
            left, right = (height, 2 * place), (height, 2 * place + 1)
            _, place = min(left, right, key=self._crowding)
        return _within(place * SLOT_MS, (place + 1) * SLOT_MS, self._sums[0])

    def peak_per_second(self, now: int) -> int:
        """The most that renew in any one second from `now`'s on."""
        current = now // 1_000
        return max((renewals for second, renewals in self.seconds.items() if second >= current), default=0)

    def _crowding(self, node: tuple[int, int]) -> tuple[int, float]:
        height, place = node
        return self._least[height].get(place, 0), (self._sums[height].get(place, 0) + 1) / (1 << height)

    def _change(self, at: int, by: int) -> None:
        place = at // SLOT_MS
        count(self.seconds, at // 1_000, by)
        below = self._least[0]
        for height, sums in enumerate(self._sums):
            _put(sums, place, sums.get(place, 0) + by)
            if height:
                least = min(below.get(2 * place, 0), below.get(2 * place + 1, 0))
                below = self._least[height]
                _put(below, place, least)
            place //= 2


def count(counts: dict[int, int], place: int, by: int) -> None:
    """Change how many there are at a place; one where there are none is not kept."""
    _put(counts, place, counts.get(place, 0) + by)


def _put(counts: dict[int, int], place: int, value: int) -> None:
    if value:
        counts[place] = value
    else:
        counts.pop(place, None)


def _within(first: int, end: int, counts: dict[int, int]) -> int:
    """A moment of one slot, its sessions spread over it: the multiples of the golden ratio keep apart, however many there are."""
    return first + counts.get(first // SLOT_MS, 0) * 618 % 1_000 * (end - first) // 1_000


def _cover(low: int, high: int, heights: int) -> list[tuple[int, int]]:
    """The fewest nodes `(height, place)` that make up the slots `[low, high)`."""
    nodes, height = [], 0
    while low < high and height < heights - 1:
        if low % 2:
            nodes.append((height, low))
            low += 1
        if high % 2:
            high -= 1
            nodes.append((height, high))
        low, high, height = low // 2, high // 2, height + 1
    return nodes + [(height, place) for place in range(low, high)]

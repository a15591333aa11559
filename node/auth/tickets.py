"""The signed ticket of a `welcome`: who brings it back was here a moment ago, and shakes hands before newcomers. It proves nothing else.

The key comes, by HKDF (RFC 5869), from each configured HMAC secret with the log's epoch as salt: every node of a cluster has the
same, a ticket outlives the rotation of a secret, and one cluster's tickets are nothing to another. Where tokens are verified with
public keys only, the epoch alone has to do: it is random and kept from all but operators, and whoever forged a ticket would have
won a better place in a queue, no access.
"""

import hmac
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable

_INFO = b"tidegate ticket 1"
_MOST_CHARS = 200  # an id of a session, a time and a signature are half of it


def ticket_keys(secrets: Iterable[str], epoch: str) -> tuple[bytes, ...]:
    """The keys of a cluster whose log has this epoch: one for each secret, the first of them signs."""
    material = [secret.encode() for secret in secrets] or [epoch.encode()]
    return tuple(_hkdf(one, salt=epoch.encode()) for one in material)


class Tickets:
    """Makes tickets and knows its own: `resumable(session, now)` says whether a session may still be resumed.

    A ticket is good once on each node, so that a crowd does not come in on one.
    """

    LIFE_MS = 86_400_000  # a session that renews in place gets no new one: its ticket must last as long as people stay
    REMEMBERED = 50_000  # tickets that were used here

    def __init__(self, keys: tuple[bytes, ...], resumable: Callable[[str, int], bool]) -> None:
        self._keys, self._resumable = keys, resumable
        self._used: OrderedDict[str, None] = OrderedDict()

    def make(self, session: str, now: int) -> str:
        """The ticket of a session that was opened at `now` (ms)."""
        body = f"{session}.{now:x}"
        return f"{body}.{_sign(self._keys[0], body)}"

    def good(self, ticket: str, now: int) -> bool:
        """Whether it is one of this cluster's, neither old nor used, of a session that may be resumed."""
        if len(ticket) > _MOST_CHARS or not ticket.isascii() or ticket in self._used:
            return False
        body, _, signature = ticket.rpartition(".")
        if not any(hmac.compare_digest(signature, _sign(key, body)) for key in self._keys):
            return False
        session, _, made = body.rpartition(".")
        return abs(now - int(made, 16)) <= self.LIFE_MS and self._resumable(
            session, now
        )  # a node's clock may be behind another's

    def use(self, ticket: str) -> None:
        """It has brought somebody in."""
        self._used[ticket] = None
        if len(self._used) > self.REMEMBERED:
            self._used.popitem(last=False)


def _sign(key: bytes, body: str) -> str:
    return urlsafe_b64encode(hmac.digest(key, body.encode(), "sha256")[:16]).rstrip(b"=").decode()


def _hkdf(material: bytes, *, salt: bytes) -> bytes:
    """32 bytes: extract, then the first block of expand."""
    return hmac.digest(hmac.digest(salt, material, "sha256"), _INFO + b"\x01", "sha256")

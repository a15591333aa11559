"""The state that the log folds into: values, and the interface through which `decide` and `apply` reach it.

`View` is implemented by `MemoryView` (here: plain dictionaries, the reference) and by the read model in SQLite
(`flow/store.py`). Both give the same answers for the same log: a property test holds it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from node.core.events import EndReason, Role, RoomKind

LOST = -1  # in place of a `seq`
FOR_EVER = 2**53  # in place of a moment: the largest number that an event may hold


class Room(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    title: str
    kind: RoomKind
    created_by: str
    created_at: int
    seq: int  # of its last sequenced event
    changed_at: int  # time of its last sequenced event


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What a room knows of a user: in it (`role` is set), invited (`invited_by` is set), or formerly in it (`left` is set)."""

    user: str
    role: Role | None = None
    joined: int = 0  # seq of the event that made him a member, the last time
    left: int = 0  # seq of the event that ended it; 0 while he is in
    invited_by: str | None = None
    read: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it reads now. A deleted one keeps its place with an empty text."""

    room: str
    seq: int
    id: str
    author: str
    text: str
    at: int
    reply_to: str | None = None
    edited_at: int | None = None
    deleted_at: int | None = None
    deleted_by: str | None = None
    reactions: dict[str, tuple[str, ...]] = {}  # emoji -> users, in the order they reacted


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A sequenced event as it was sent live."""

    seq: int
    name: str
    payload: dict[str, Any]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token that a session stands on, or stood on, from `since` on."""

    since: int
    expires_at: int
    issued_at: int | None = None
    jti: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One connection of a user to a namespace, from its `opened_at` to its `closed_at` (None: open, unless its token has ended)."""

    MOST_LINEAGE: ClassVar[int] = 100  # tokens; one a second could be brought

    session: str
    user: str
    node: str
    namespace: str
    transport: str
    opened_at: int
    expires_at: int  # this and the next two are its present token's
    issued_at: int | None = None
    jti: str | None = None
    lineage: tuple[Token, ...]  # its tokens that had not ended when the present one came, and that, oldest first
    renewals: int = 0
    resumes: str | None = None
    root: (
        str  # the first session of its chain, as far as was known when it was opened; itself where it resumes none. See `root_of`
    )
    revoked: bool = False  # of a root: its whole chain has been withdrawn
    closed_at: int | None = None
    reason: EndReason | None = None

    def standing_on(self, tokens: Sequence[Token], *, renewals: int) -> "Session":
        """The session with these tokens, of which the last is the present one."""
        kept, present = tuple(tokens[-self.MOST_LINEAGE :]), tokens[-1]
        return msgspec.structs.replace(
            self, expires_at=present.expires_at, issued_at=present.issued_at, jti=present.jti, lineage=kept, renewals=renewals
        )


class Revoked(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens issued before `before` (or without `iat`) are not accepted, until `until`: there are none left then."""

    before: int
    until: int = FOR_EVER

    def covers(self, other: "Revoked") -> bool:
        """Whether the other says nothing that this one does not say, at any time."""
        return self.before >= other.before and self.until >= other.until


class Withdrawals(msgspec.Struct, frozen=True, kw_only=True):
    """What has been withdrawn from one user.

    What its `until` has passed has no say any more, and may have been forgotten: `left` is what remains. To forget at any moments and
    go on withdrawing gives the same as to go on withdrawing and forget at the last of them.
    """

    revoked: tuple[Revoked, ...] = ()  # none covers another
    suspended_until: int | None = None  # None: he is not

    def code(self, issued_at: int | None, now: int) -> Literal["user_suspended", "token_revoked"] | None:
        """Why a token of the user, issued at `issued_at`, is not accepted at `now`; None where nothing withdraws it."""
        if self.suspended_until is not None and now < self.suspended_until:
            return "user_suspended"
        if any(now < one.until and (issued_at is None or issued_at < one.before) for one in self.revoked):
            return "token_revoked"
        return None

    def with_revoked(self, new: Revoked) -> "Withdrawals":
        """These and one more."""
        if any(one.covers(new) for one in self.revoked):
            return self
        kept = [one for one in self.revoked if not new.covers(one)]
        return msgspec.structs.replace(self, revoked=tuple(sorted([*kept, new], key=lambda one: one.before)))

    def left(self, now: int) -> "Withdrawals | None":
        """What still holds at `now`; None where nothing does."""
        revoked = tuple(one for one in self.revoked if now < one.until)
        suspended = self.suspended_until if self.suspended_until is not None and now < self.suspended_until else None
        return Withdrawals(revoked=revoked, suspended_until=suspended) if revoked or suspended is not None else None


class View(Protocol):
    """Reading and changing the state. Reads see every change made before them. No method raises for what is not there."""

    def room(self, name: str) -> Room | None: ...
    def rooms(self) -> Iterable[Room]: ...
    def member(self, room: str, user: str) -> Member | None: ...
    def members(self, room: str) -> Mapping[str, Member]:
        """All that the room knows of, former and invited users included, in the order in which it first heard of them."""
        ...

    def member_count(self, room: str) -> int:
        """How many are in it (`role` is set)."""
        ...

    def rooms_of(self, user: str) -> Iterable[str]:
        """The rooms that know of the user in any way, in the order in which they first heard of him."""
        ...

    def message(self, room: str, seq: int) -> Message | None: ...
    def has_message(self, room: str, id: str) -> bool:
        """Whether anyone has posted under this id in the room."""
        ...

    def find_message(self, room: str, id: str, author: str | None = None) -> Message | None:
        """The message with this id: the author's, or, with `author` None, the first that anyone posted under it."""
        ...

    def seen(self, key: str) -> tuple[int, int] | None:
        """`(seq, at)` of the event that was applied under this key, if one was; `LOST` in place of `seq` where it lost its race."""
        ...

    def session(self, session: str) -> Session | None: ...
    def open_sessions(self) -> Iterable[Session]:
        """Those not closed in the log."""
        ...

    def open_sessions_of(self, user: str) -> Iterable[Session]: ...
    def withdrawals(self, user: str) -> Withdrawals | None: ...
    def revoked_jti(self, jti: str) -> int | None:
        """Until when tokens with this `jti` are withdrawn, where they were; see `jti_revoked`."""
        ...

    def revoked_session(self, session: str) -> int | None:
        """The same for a session that was withdrawn before it was known; see `session_revoked`."""
        ...

    def put_room(self, room: Room) -> None: ...
    def put_member(self, room: str, member: Member) -> None: ...
    def put_message(self, message: Message) -> None: ...
    def put_timeline(self, room: str, entry: TimelineEntry) -> None: ...
    def put_seen(self, key: str, seq: int, at: int) -> None: ...
    def put_session(self, session: Session) -> None: ...
    def put_withdrawals(self, user: str, withdrawals: Withdrawals) -> None: ...
    def put_revoked_jti(self, jti: str, until: int) -> None: ...
    def put_revoked_session(self, session: str, until: int) -> None: ...


def root_of(view: View, session: str) -> str:
    """The first session of the chain of resumes that this one is in, as far as it is known: a chain is one user's."""
    found = view.session(session)
    while found is not None and found.root != found.session:
        before = view.session(found.root)
        if before is None:
            return found.root
        if before.user != found.user:
            break
        found = before
    return found.session if found is not None else session


def jti_revoked(view: View, jti: str | None, now: int) -> bool:
    """Whether the token of this id has been withdrawn."""
    until = view.revoked_jti(jti) if jti is not None else None
    return until is not None and now < until


def session_revoked(view: View, session: str, now: int) -> bool:
    """Whether the chain of the session has been withdrawn, by any of its sessions: none of them may be resumed."""
    root = root_of(view, session)
    first, until = view.session(root), view.revoked_session(root)
    return (first is not None and first.revoked) or (until is not None and now < until)

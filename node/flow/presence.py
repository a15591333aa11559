"""What the nodes tell each other in passing: who is there, who types. Nothing here needs to last.

Who is online follows from the open sessions in the log, less those of nodes that have not been heard for a while.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from broker.batch import UNREADABLE
from broker.log import Signals
from node.core.errors import Refused
from node.core.events import EndReason
from node.core.limits import Limits
from node.core.view import View

BEAT_S = 1.0
LOST_S = 3.5  # three beats and a half: a node that has been silent so long is taken for dead
FORGET_S = 600.0  # a name that nobody has used for so long: until then it is told of a node that it is gone
DRAIN_SEEN_S = 3.0  # in which a node that is asked to drain has to be heard doing so
DRAIN_ASKED_S = 1.0  # for which it is asked: what is refused as not heard must not be on its way any more
DRAIN_KEPT_MS = 10_000  # by its own clock: past it a node that hung does not do what it was asked, and more than clocks differ
ASK_AGAIN_S = 0.5  # what asks it may be lost on its way
GRACE_S = 3.0  # who comes back within it was never away: a reconnect is no news to the others
RETURN_S = 15.0  # the same for who was put out by the cluster, and comes back when there is room
PUT_OUT: frozenset[EndReason] = frozenset({"token_expired", "draining", "node_lost"})
SLICE_S = 0.005  # at once for telling who is gone, and then as long for all else
CHAT = "/"


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="beat"):
    """A node is there; `state` is what it tells of itself in `/api/cluster`."""

    node: str
    state: dict[str, Any]


class TypingSignal(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="typing"):
    """A member types in a room of whoever hears it."""

    room: str
    user: str
    on: bool


class DrainSignal(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="drain"):
    """An operator wants this node to take its leave: the process that began at `started_at`, not the one that follows it."""

    node: str
    started_at: int | None = None
    asked_at: int | None = None


def _counts(state: dict[str, Any]) -> bool:
    """Whether what a node tells of itself can be added to what the others tell, as far as it has it."""
    sums = [state.get(name, {}) for name in SUMMED]
    numbers = [state.get(name, 0) for name in _NUMBERS]
    if not all(isinstance(of, dict) for of in sums):
        return False
    return all(isinstance(value, int | float) for value in (*numbers, *(value for of in sums for value in of.values())))


def _drains(state: dict[str, Any]) -> bool:
    """Whether a node tells of itself that it drains."""
    reasons = state.get("not_ready")
    return isinstance(reasons, dict) and "draining" in reasons


SUMMED = ("expiring", "handshakes", "handshake_codes", "renewals", "session_ends")  # counts by name
_NUMBERS = ("sessions", "renewal_peak_per_second", "handshake_capacity_per_second", "lag_seconds")
_Signal = Beat | TypingSignal | DrainSignal
_decoder: msgspec.json.Decoder[_Signal] = msgspec.json.Decoder(_Signal)


class Presence:
    """Heartbeats between nodes, and who is online because of them."""

    def __init__(
        self,
        *,
        node: str,
        view: View,
        signals: Signals,
        limits: Limits,
        clock: Callable[[], int],
        state: Callable[[], dict[str, Any]],
        tell_users: Callable[[Iterable[str], str, dict[str, Any]], None],
        deliver: Callable[[str, str, dict[str, Any]], None],
        drain: Callable[[], None],
        heard: Callable[[dict[str, Any]], None] = lambda state: None,
    ) -> None:
        """`heard` is told of each state that another node tells."""
        self._tell_heard = heard
        self._node, self._view, self._signals, self._limits, self._clock = node, view, signals, limits, clock
        self._state, self._tell_users, self._deliver, self._drain = state, tell_users, deliver, drain
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._heard: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lost: set[str] = set()
        self._online: set[str] = set()
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._gone_untold: dict[str, None] = {}  # users, in the order in which they went
        self._beat_heard = asyncio.Event()
        signals.subscribe(self._receive)

    def online(self, user: str) -> bool:
        """Whether the user counts as there: as the others have been told, so also for a moment after the last session is gone."""
        return user in self._leaving or self._connected(user)

    def _connected(self, user: str) -> bool:
        """Whether the user has a session for chat on any node that is there."""
        now = self._clock()
        return any(
            session.namespace == CHAT and session.expires_at > now and self._alive(session.node)
            for session in self._view.open_sessions_of(user)
        )

    def nodes(self) -> dict[str, dict[str, Any]]:
        """What each node that is there tells of itself, this one included."""
        others = {node: state for node, (_, state) in self._heard.items() if self._alive(node)}
        return {self._node: self._state(), **others}

    def gone(self) -> dict[str, dict[str, Any]]:
        """The nodes that were heard in the last `FORGET_S` and are not there: `{node: {silent_seconds, draining}}`.

        `draining` is whether that was their last word: they have ended in order.
        """
        now = self._loop.time()
        return {
            node: {"silent_seconds": round(now - at, 1), "draining": _drains(state)}
            for node, (at, state) in self._heard.items()
            if not self._alive(node)
        }

    def draining(self) -> dict[str, bool]:
        """Of each other node that was heard in the last `FORGET_S`, there or gone: whether its last word was that it drains."""
        return {node: _drains(state) for node, (_, state) in self._heard.items() if node != self._node}

    def peers(self) -> int:
        """How many other nodes are there."""
        return sum(map(self._alive, self._heard))

    def typing(self, room: str, user: str, *, on: bool) -> None:
        """Tell the room's members on all nodes."""
        self._deliver(room, "typing", {"room": room, "user": user, "on": on})
        self._signals.publish(msgspec.json.encode(TypingSignal(room=room, user=user, on=on)))

    async def ask_to_drain(self, node: str) -> Refused | None:
        """Have a node, this one or another, drain and end. None once it does: that is, when it has been heard to, or is another process.

        For this node nothing is awaited: whoever asks over one of its sockets can still be answered.
        """
        if node == self._node:
            self._drain()
            return None
        there = node in self._heard and self._alive(node)
        if node not in self._heard or (not there and _drains(self._heard[node][1])):
            return Refused("bad_request", "no node of this name is there", "node")
        if not there:
            return Refused("unavailable", f"{node} has not been heard for a while", retry_after=round(BEAT_S * 1_000))
        process = self._heard[node][1].get("started_at")
        signal = msgspec.json.encode(DrainSignal(node=node, started_at=process, asked_at=self._clock()))
        asked_until = self._loop.time() + DRAIN_ASKED_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SEEN_S):
                while not self._leaves(node, process):
                    if self._loop.time() < asked_until:
                        self._signals.publish(signal)
                    await self._next_beat(ASK_AGAIN_S)
                return None
        return Refused("unavailable", f"{node} was asked and has not been heard to drain", retry_after=round(BEAT_S * 1_000))

    def _leaves(self, node: str, process: object) -> bool:
        """Whether what was last heard of a node is that it drains, or that another process has its name now."""
        state = self._heard[node][1]
        return _drains(state) or state.get("started_at") != process

    async def _next_beat(self, limit_s: float) -> None:
        """Return when a beat of any node has been heard, or when the time is over."""
        self._beat_heard.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._beat_heard.wait()

    def sessions_changed(self, user: str, ended: EndReason | None = None) -> None:
        """A session of `user` opened, or `ended` for this reason, somewhere. Coming is told at once, going after a grace time."""
        if self._connected(user):
            timer = self._leaving.pop(user, None)
            if timer is not None:
                timer.cancel()
            if user not in self._online:
                self._online.add(user)
                if self._gone_untold.pop(user, self) is self:  # else nobody has heard that he was away
                    self._tell(user, online=True)
        elif user in self._online and user not in self._leaving:
            self._leaving[user] = self._loop.call_later(RETURN_S if ended in PUT_OUT else GRACE_S, self._gone, user)

    def begin(self) -> None:
        """Take who is online now as known: the read model has just become level with the log."""
        self._online = {session.user for session in self._view.open_sessions() if self._connected(session.user)}

    def beat(self) -> None:
        """Tell the others how this node is, now."""
        self._signals.publish(msgspec.json.encode(Beat(node=self._node, state=self._state())))

    async def run(self) -> None:
        """Beat, and notice the nodes that stop beating, for ever."""
        while True:
            self.beat()
            self._look()
            await asyncio.sleep(BEAT_S)

    def close(self) -> None:
        """Stop the timers; idempotent."""
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()
        self._gone_untold.clear()

    def _gone(self, user: str) -> None:
        del self._leaving[user]
        if not self._connected(user):
            self._online.discard(user)
            if not self._gone_untold:
                self._loop.call_soon(self._tell_of_the_gone)
            self._gone_untold[user] = None

    def _tell_of_the_gone(self) -> None:
        """Bit by bit: who went together is told to be gone together, to everybody in their rooms, which may take seconds. Who come are let
        in one by one.
        """
        ends_at = self._loop.time() + SLICE_S
        while self._gone_untold and self._loop.time() < ends_at:
            user = next(iter(self._gone_untold))
            del self._gone_untold[user]
            self._tell(user, online=False)
        if self._gone_untold:
            self._loop.call_later(SLICE_S, self._tell_of_the_gone)

    def _tell(self, user: str, *, online: bool) -> None:
        hearers: dict[str, None] = {}
        for room in self._view.rooms_of(user):
            member = self._view.member(room, user)
            if member is not None and member.role is not None and self._view.member_count(room) <= self._limits.presence_members:
                hearers.update((name, None) for name, one in self._view.members(room).items() if one.role is not None)
        self._tell_users(hearers, "presence", {"user": user, "online": online})

    def _alive(self, node: str) -> bool:
        if node == self._node:
            return True
        heard = self._heard.get(node, (self._started_at, {}))[0]
        return self._loop.time() - heard < LOST_S

    def _look(self) -> None:
        now = self._loop.time()
        self._heard = {node: heard for node, heard in self._heard.items() if now - heard[0] < FORGET_S}
        nodes = {session.node for session in self._view.open_sessions()} | set(self._heard)
        lost = {node for node in nodes if not self._alive(node)}
        changed, self._lost = lost ^ self._lost, lost
        if changed:
            for user in {session.user for session in self._view.open_sessions() if session.node in changed}:
                self.sessions_changed(user, "node_lost")

    def _receive(self, data: bytes) -> None:
        try:
            signal = _decoder.decode(data)
        except UNREADABLE:
            return  # of another version, or a stranger's: a signal may be lost
        match signal:
            case Beat(node=node, state=state) if _counts(state):
                self._heard[node] = (self._loop.time(), state)
                self._beat_heard.set()
                self._tell_heard(state)
            case TypingSignal(room=room, user=user, on=on):
                self._deliver(room, "typing", {"room": room, "user": user, "on": on})
            case DrainSignal(node=node, started_at=process, asked_at=asked_at):
                if asked_at is not None and self._clock() - asked_at > DRAIN_KEPT_MS:
                    return
                if node == self._node and process in (None, self._state().get("started_at")):
                    self._drain()

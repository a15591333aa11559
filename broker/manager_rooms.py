"""The rooms of one node's clients: python-socketio's, with the way back from a client to its rooms, and with what the node has to hear."""

import secrets
from typing import Any

from socketio.async_pubsub_manager import AsyncPubSubManager

from broker.manager_interest import Interest
from broker.manager_wire import Room, address_of, sid_in_bucket
from broker.topology import BUCKETS


class RoomManager(AsyncPubSubManager):  # type: ignore[misc]
    """Every change of a room goes through `basic_enter_room` and `basic_leave_room`, as python-socketio has it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._interest = Interest()
        self._rooms_by_client: dict[tuple[str, str], dict[Room, None]] = {}
        self._home = secrets.randbelow(BUCKETS)  # the bucket of all sockets of this node

    def _is_here(self, sid: str, namespace: str) -> bool:
        return bool(self.is_connected(sid, namespace) or self.is_pre_connected(sid, namespace))

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """See python-socketio. A sid is chosen so that all sockets of this node, each a room by itself, are heard through one bucket."""
        if self.sid_from_eio_sid(eio_sid, namespace) is not None:
            return None
        sid = sid_in_bucket(self.server.eio.generate_id(), namespace, self._home)
        self.basic_enter_room(sid, namespace, None, eio_sid=eio_sid)
        self.basic_enter_room(sid, namespace, sid, eio_sid=eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        return sid

    def basic_enter_room(self, sid: str, namespace: str, room: Room, eio_sid: str | None = None) -> None:
        """See python-socketio. Raises `TypeError` for a room that others could not be told."""
        if eio_sid is None and namespace in self.rooms:
            eio_sid = self.rooms[namespace][None][sid]  # raises before an empty room is made
        address = address_of(namespace, room)  # raises before anything has changed
        has_members = bool(self.rooms.get(namespace, {}).get(room))
        super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        self._rooms_by_client.setdefault((namespace, sid), {})[room] = None
        if not has_members:
            self._interest.add(address)

    def basic_leave_room(self, sid: str, namespace: str, room: Room) -> None:
        """See python-socketio."""
        was_in = sid in self.rooms.get(namespace, {}).get(room, ())
        super().basic_leave_room(sid, namespace, room)
        self._forget(namespace, sid, room)
        if was_in and room not in self.rooms.get(namespace, {}):
            self._interest.remove(address_of(namespace, room))

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        """See python-socketio, which looks through every room of the namespace."""
        for room in self.rooms_of(sid, namespace):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)
                if not pending[namespace]:
                    del pending[namespace]

    def get_rooms(self, sid: str, namespace: str) -> list[Room]:
        """See python-socketio."""
        return [room for room in self.rooms_of(sid, namespace) if room is not None]

    def rooms_of(self, sid: str, namespace: str) -> list[Room]:
        """As `get_rooms`, with the one that everyone in the namespace is in."""
        return list(self._rooms_by_client.get((namespace, sid), ()))

    def _forget(self, namespace: str, sid: str, room: Room) -> None:
        rooms = self._rooms_by_client.get((namespace, sid))
        if rooms is not None:
            rooms.pop(room, None)
            if not rooms:
                del self._rooms_by_client[namespace, sid]

"""The flow behind one face: what the edge may ask of it. See `node.edge.gateway.Chat`."""

import asyncio
from collections.abc import Callable
from typing import Any

from broker.topology import partition_for
from node.core import rules
from node.core.commands import Command, Query, Typing
from node.core.effects import Applied
from node.core.errors import Refused
from node.core.events import ControlEvent
from node.core.identity import Principal
from node.core.view import Session
from node.flow.committer import Committer
from node.flow.presence import Presence
from node.flow.projector import Projector
from node.flow.queries import Queries
from node.flow.store import Store


class ChatFlow:
    """Commands to the committer, reads to the queries, passing notices to the signals."""

    def __init__(
        self,
        *,
        store: Store,
        projector: Projector,
        room_partitions: int,
        committer: Committer,
        queries: Queries,
        presence: Presence,
        new_id: Callable[[], str],
    ) -> None:
        self._store, self._committer, self._queries, self._presence = store, committer, queries, presence
        self._projector, self._room_partitions = projector, room_partitions
        self.new_id = new_id

    async def submit(self, command: Command, principal: Principal) -> Applied | Refused:
        """Carry out a command; returns once it is applied here."""
        return await self._committer.submit(command, principal)

    async def answer(self, query: Query, principal: Principal) -> dict[str, Any] | Refused:
        """Read the view."""
        return await self._queries.answer(query, principal)

    async def is_behind(self, cursors: dict[str, int]) -> bool:
        """Whether a returning client has seen more than this node knows of: on another one, before it came here."""
        return bool(await self._queries.unknown(cursors))

    async def reach(self, cursors: dict[str, int]) -> None:
        """Return once the view is where the client is, or level with a log in which his cursors do not exist (then they are made up).

        Waits for a log that is away.
        """
        for _ in range(2):  # what is looked at may be a look that began before the client came; the second did not
            partitions = {partition_for(room, self._room_partitions) for room in await self._queries.unknown(cursors)}
            if not partitions:
                return
            await asyncio.gather(*(self._projector.look(partition) for partition in partitions))

    async def replays(self, user: str, cursors: dict[str, int]) -> list[dict[str, Any]]:
        """The `replay` payloads for a returning client."""
        return await self._queries.replays(user, cursors)

    def typing(self, notice: Typing, principal: Principal) -> Refused | None:
        """Pass a typing notice on, here and to the other nodes."""
        found = rules.be_in(self._store, notice.room, principal.user)
        if isinstance(found, Refused):
            return found
        self._presence.typing(notice.room, principal.user, on=notice.on)
        return None

    def welcome_rooms(self, user: str) -> list[dict[str, Any]]:
        """The rooms of `welcome`."""
        return self._queries.welcome_rooms(user)

    def session_of(self, session: str, user: str) -> Session | None:
        """The session, where it was the user's."""
        found = self._store.session(session)
        return found if found is not None and found.user == user else None

    def record(self, event: ControlEvent) -> None:
        """Put the life of a session into the log, without waiting."""
        self._committer.record(event)

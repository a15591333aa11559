"""What a returning client has missed, sent to it before anything live."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from node.edge.commands import Chat
from node.edge.handshake import Resume
from node.edge.session import Session
from node.edge.witness import Witness


class CatchingUp:
    """Until it is done, what is live is held back in the session. `start` does something for a session beside all others."""

    def __init__(
        self,
        *,
        chat: Chat,
        witness: Witness,
        clock: Callable[[], int],
        start: Callable[[Session, Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._chat, self._witness, self._clock, self._start = chat, witness, clock, start

    async def begin(self, session: Session, resume: Resume | None) -> None:
        """Send what came after the cursors of `resume`, then everything; at once where there is none, or the node has read enough."""
        if resume is None:
            session.release({}, now=self._clock())
        elif not await self._chat.is_behind(resume.cursors):
            await self._send_missed(session, resume.cursors)
        elif session.ended is None:  # the rest of its connection does not wait for that
            session.reaching = self._start(session, self._reach(session, resume.cursors))

    async def _reach(self, session: Session, cursors: dict[str, int]) -> None:
        """Let a client wait that has seen more than this node: what the node still has to learn is no news to it."""
        await self._chat.reach(cursors)
        await self._send_missed(session, cursors)

    async def _send_missed(self, session: Session, cursors: dict[str, int]) -> None:
        """Send what was missed, then what came meanwhile, then everything as it comes."""
        replays = await self._chat.replays(session.principal.user, cursors)
        for replay in replays:
            if not session.alive(self._clock()):
                return
            session.send("replay", replay)
            self._witness.replayed(replay)
        self._witness.resumed(complete=all(replay["complete"] for replay in replays))
        session.release({replay["room"]: replay["to"] for replay in replays}, now=self._clock())

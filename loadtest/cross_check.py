"""People of Locust's own `SocketIOUser` in the same rooms as ours: a second client that nobody here wrote, to hold ours to.

What it was acked and saw goes to the checker like everybody's; what it waits for is timed by Locust's own wrapper
(`WSC message:send`), beside our `send to ack`. A refusal, and an answer that it waits for in vain, are held against the storm
(`Storm.undone`), like those of our people. It costs several times as much: a few are enough.
"""

from typing import Any

import gevent
from gevent.event import Event
from locust.contrib.socketio import SocketIOUser

from loadtest import people
from loadtest.checker import posted
from loadtest.clock import monotonic, wall_ms, wall_of
from loadtest.journal import Journal
from loadtest.outbox import AGAIN
from loadtest.storm import Storm

NAME = "WSC message:send"
_PAUSE_S = 0.5
_WORDS = "said by another client"


class Crossing:
    """One of them."""

    def __init__(self, user: SocketIOUser, storm: Storm, name: str, number: int, *, patience_s: float = 10.0) -> None:
        """`patience_s`: how long it waits for each answer."""
        self._user, self._storm, self.name, self._patience_s = user, storm, name, patience_s
        self._journal, self._draw = Journal(name, storm.names), storm.draw(name)
        self._host = storm.plan.hosts[number % len(storm.plan.hosts)]
        self._token = storm.plan.mint(name, storm.scenario.ttl_s)
        storm.onlookers.append(self._journal)

    def live(self) -> None:
        """Connect, be in some rooms, and say something now and then, until the storm comes to rest."""
        sio, storm, draw = self._user.sio, self._storm, self._draw
        for event in ("message", "joined", "left", "room"):
            sio.on(event, self._hears(event))
        sio.connect(self._host, auth={"token": self._token.text}, transports=["websocket"], wait_timeout=self._patience_s)
        if not sio.connected:  # it comes once
            people.refused(storm, "connect", "lost")
        rooms = [room for room in people.drawn(draw, storm) if sio.connected and self._enter(room)]
        due, number = monotonic(), 0
        while not storm.quiet:
            due += draw.expovariate(storm.scenario.rate)
            gevent.sleep(max(0.0, due - monotonic()))
            if rooms and not storm.quiet:
                self._say(draw.choice(rooms), f"{storm.run}-{number}", due)
                number += 1
        Event().wait()  # until it is ended: it goes on hearing

    def leave(self) -> None:
        """Nothing more is owed to it."""
        self._journal.end()
        self._user.sio.disconnect()

    def _enter(self, room: str) -> bool:
        for command, goes_on in people.ENTERING:
            answer = self._call(command, {"room": room})
            if answer is not None and answer["ok"] and answer["seq"]:
                self._journal.watch(room, after=answer["seq"])
            if answer is None or answer["ok"]:
                return answer is not None
            if answer["error"]["code"] != goes_on:
                people.refused(self._storm, command, answer["error"]["code"])
                break
        return False

    def _say(self, room: str, id: str, due: float) -> None:
        text = f"{wall_of(due):.6f} {_WORDS}"
        answer = self._call("message:send", {"room": room, "id": id, "text": text})
        if answer is None:
            return
        if answer["ok"]:
            self._journal.acked(room, answer["seq"], posted(self.name, id, text))
            self._storm.observer.crossed(monotonic() - due)
        else:
            people.refused(self._storm, "message:send", answer["error"]["code"])

    def _call(self, command: str, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The last word on it; None where none comes in time, or there is no connection to ask over."""
        while True:
            answer: dict[str, Any] | None = self._user.sio.call(command, payload, timeout=self._patience_s)
            if answer is None:  # Locust's wrapper has counted what was raised, and kept it
                people.unanswered(self._storm, command)
                return None
            if answer["ok"] or answer["error"]["code"] not in AGAIN or self._storm.quiet:
                return answer
            gevent.sleep(max(_PAUSE_S, answer["error"].get("retry_after", 0) / 1000))

    def _hears(self, name: str) -> Any:
        def heard(event: dict[str, Any]) -> None:
            room, seq = event["room"], event["seq"]
            mine = self.name in (event.get("user"), event.get("by"))
            if mine and (name == "joined" or event.get("change") == "created"):
                self._journal.watch(room, after=seq - 1)
            who = event.get("from") or event.get("user") or event.get("by") or ""
            called = (
                posted(who, event["id"], event["text"])
                if name == "message"
                else f"{name} {who} {event.get('id', '')} {event['at']}"
            )
            self._journal.saw(room, seq, called, at=wall_ms(), expires_at=self._token.ends_at)

        return heard

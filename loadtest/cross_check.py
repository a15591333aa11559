"""People of Locust's own `SocketIOUser` in the same rooms as ours: a second client that nobody here wrote, to hold ours to.

What it was acked and saw goes to the checker like everybody's; what it waits for is timed by Locust's own wrapper
(`WSC message:send`), beside our `send to ack`. It costs several times as much: a few are enough.
"""

from typing import Any

import gevent
from locust.contrib.socketio import SocketIOUser

from loadtest.checker import posted
from loadtest.clock import WALL_S, monotonic, wall_ms
from loadtest.journal import Journal
from loadtest.storm import Storm

NAME = "WSC message:send"
_PATIENCE_S = 10.0
_WORDS = "said by another client"


class Crossing:
    """One of them."""

    def __init__(self, user: SocketIOUser, storm: Storm, name: str, number: int) -> None:
        self._user, self._storm, self.name = user, storm, name
        self._journal, self._draw = Journal(name, storm.names), storm.draw(name)
        self._host = storm.plan.hosts[number % len(storm.plan.hosts)]
        self._token = storm.plan.mint(name, storm.scenario.ttl_s)
        storm.onlookers.append(self._journal)

    def live(self) -> None:
        """Connect, be in some rooms, and say something now and then, until the storm comes to rest."""
        sio, storm, draw = self._user.sio, self._storm, self._draw
        for event in ("message", "joined", "left", "room"):
            sio.on(event, self._hears(event))
        sio.connect(self._host, auth={"token": self._token.text}, transports=["websocket"], wait_timeout=_PATIENCE_S)
        rooms = [room for room in draw.sample(storm.rooms, storm.scenario.rooms_each) if self._enter(room)]
        due, number = monotonic(), 0
        while not storm.quiet:
            due += draw.expovariate(storm.scenario.rate)
            gevent.sleep(max(0.0, due - monotonic()))
            if rooms and not storm.quiet:
                self._say(draw.choice(rooms), f"{storm.run}-{number}", due)
                number += 1
        gevent.sleep(_PATIENCE_S * 100)  # until it is ended: it goes on hearing

    def leave(self) -> None:
        """Nothing more is owed to it."""
        self._journal.end()
        self._user.sio.disconnect()

    def _enter(self, room: str) -> bool:
        for command in ("room:join", "room:create", "room:join"):
            if self._user.sio.call(command, {"room": room}, timeout=_PATIENCE_S)["ok"]:
                return True
        return False

    def _say(self, room: str, id: str, due: float) -> None:
        message = {"room": room, "id": id, "text": f"{due + WALL_S:.6f} {_WORDS}"}
        answer = self._user.sio.call("message:send", message, timeout=_PATIENCE_S)
        if answer["ok"]:
            self._journal.acked(room, answer["seq"], posted(self.name, id))
            self._storm.observer.crossed(monotonic() - due)

    def _hears(self, name: str) -> Any:
        def heard(event: dict[str, Any]) -> None:
            room, seq = event["room"], event["seq"]
            mine = self.name in (event.get("user"), event.get("by"))
            if mine and (name == "joined" or event.get("change") == "created"):
                self._journal.watch(room, after=seq - 1)
            who = event.get("from") or event.get("user") or event.get("by") or ""
            called = posted(who, event["id"]) if name == "message" else f"{name} {who} {event.get('id', '')} {event['at']}"
            self._journal.saw(room, seq, called, at=wall_ms(), expires_at=self._token.ends_at)

        return heard

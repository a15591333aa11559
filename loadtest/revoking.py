"""The tokens of some people of one process are withdrawn, by the API of any node, several at a time."""

import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException

import gevent
import msgspec
from gevent.pool import Pool

from loadtest.storm import Person, Storm
from loadtest.tokens import TokenUnavailable
from loadtest.waiting import sleep_until

AT_ONCE = 8
TRIES = 5
_LIMIT_S = 10.0
_PAUSE_S = 0.5
_TTL_S = 60.0
_MOST_NAMED = 5


class Revoking:
    """A greenlet that waits for its moment, and some that withdraw."""

    def __init__(self, storm: Storm) -> None:
        self.count = 0  # that were withdrawn
        self._refused: list[str] = []
        self._left: set[str] = set()  # users who were chosen, and of whom it is not known yet
        self._storm, self._pool = storm, Pool(AT_ONCE)
        self._greenlet = gevent.spawn(self._run)

    @property
    def problems(self) -> Sequence[str]:
        """Whom nobody would withdraw, and who had not been by now: the storm did not do to them what it was to do."""
        if not self._left:
            return tuple(self._refused)
        named = ", ".join(sorted(self._left)[:_MOST_NAMED]) + (", …" if len(self._left) > _MOST_NAMED else "")
        return (*self._refused, f"the tokens of {len(self._left)} people had not been withdrawn by the end: {named}")

    def stop(self) -> None:
        """End it, whatever it is at; idempotent. What has not been done stays a problem."""
        self._greenlet.kill(block=False)
        self._pool.kill(block=False)

    def _run(self) -> None:
        storm = self._storm
        sleep_until(storm.began + storm.scenario.strike_s)
        chosen = [
            person
            for person in storm.people
            if not person.gone and storm.draw(f"{person.client.user}/withdrawn").random() < storm.scenario.share
        ]
        self._left = {person.client.user for person in chosen}
        for number, person in enumerate(chosen):
            self._pool.spawn(self._revoke, number, person)

    def _revoke(self, number: int, person: Person) -> None:
        """An operator of its own for each: they have quotas, too."""
        hosts, user, error = self._storm.plan.hosts, person.client.user, ""
        # An answer may be lost, and be that of a withdrawal that is done, or is still to be: asked again, it takes back nothing newer.
        asked = {"user": user, "before": person.client.being_withdrawn()}
        for attempt in range(TRIES):
            try:
                admin = self._storm.plan.mint(f"{user}-admin", _TTL_S, scope="admin")
                _post(f"{hosts[(number + attempt) % len(hosts)]}/api/revoke", admin.text, asked)
            except (OSError, HTTPException, TokenUnavailable) as fault:
                error = str(fault) or type(fault).__name__
                gevent.sleep(_PAUSE_S)
            else:
                person.client.withdrawn()
                self.count += 1
                self._left.discard(user)
                return
        self._left.discard(user)
        self._refused.append(f"the tokens of {user} could not be withdrawn: {error}")


def _post(url: str, token: str, body: Mapping[str, object]) -> None:
    """Raises `OSError` or `HTTPException` unless it is answered with 200."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, msgspec.json.encode(body), headers)  # noqa: S310 - a node of the operator's own
    with urllib.request.urlopen(request, timeout=_LIMIT_S):  # noqa: S310
        pass

"""The tokens of some people of one process are withdrawn, by the API of any node, several at a time."""

import urllib.request
from collections.abc import Mapping

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


class Revoking:
    """A greenlet that waits for its moment. `problems` has those whom nobody would withdraw."""

    def __init__(self, storm: Storm) -> None:
        self.problems: list[str] = []
        self.count = 0
        self._storm = storm
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End it; idempotent."""
        self._greenlet.kill(block=False)

    def _run(self) -> None:
        storm = self._storm
        sleep_until(storm.began + storm.scenario.strike_s)
        chosen = [
            person
            for person in storm.people
            if not person.gone and storm.draw(f"{person.client.user}/withdrawn").random() < storm.scenario.share
        ]
        pool = Pool(AT_ONCE)
        for number, person in enumerate(chosen):
            pool.spawn(self._revoke, number, person)
        pool.join()

    def _revoke(self, number: int, person: Person) -> None:
        """An operator of its own for each: they have quotas, too."""
        hosts, user, error = self._storm.plan.hosts, person.client.user, ""
        # An answer may be lost, and be that of a withdrawal that is done, or is still to be: asked again, it takes back nothing newer.
        asked = {"user": user, "before": person.client.being_withdrawn()}
        for attempt in range(TRIES):
            try:
                admin = self._storm.plan.mint(f"{user}-admin", _TTL_S, scope="admin")
                _post(f"{hosts[(number + attempt) % len(hosts)]}/api/revoke", admin.text, asked)
            except (OSError, TokenUnavailable) as fault:
                error = str(fault)
                gevent.sleep(_PAUSE_S)
            else:
                person.client.withdrawn()
                self.count += 1
                return
        self.problems.append(f"the tokens of {user} could not be withdrawn: {error}")


def _post(url: str, token: str, body: Mapping[str, object]) -> None:
    """Raises `OSError` unless it is answered with 200."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, msgspec.json.encode(body), headers)  # noqa: S310 - a node of the operator's own
    with urllib.request.urlopen(request, timeout=_LIMIT_S):  # noqa: S310
        pass

"""Waiting for a moment, in gevent's terms."""

import gevent

from loadtest.clock import wall


def sleep_until(moment: float) -> None:
    """Until the wall's clock shows this: a timer of gevent's counts from when its loop came round last, and may ring too early."""
    while (left := moment - wall()) > 0:
        gevent.sleep(left)


def begin_now() -> None:
    """Have timers that are set from here on count from now, however long this process has been busy with other things."""
    gevent.get_hub().loop.update_now()

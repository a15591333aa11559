"""When something has to be done on an open connection though no packet comes."""

import msgspec

NEVER = float("inf")


class Alarms(msgspec.Struct):
    """Moments of the monotonic clock. One user's, for one connection after the other."""

    close: float = NEVER  # end it: no welcome came, or the server does not close what it said that it will
    silent: float = NEVER  # end it: nothing came
    renew: float = NEVER  # ask for the renewal again
    refill: float = NEVER  # ask for what was missed again
    resend: float = NEVER  # send what was refused for the moment again
    outstayed: float = NEVER  # end it: there has been no right to it for long, and the server has not ended it
    silence_s: float = NEVER  # that there may be from one packet to the next

    @property
    def next(self) -> float:
        """The first of them."""
        return min(self.close, self.silent, self.renew, self.refill, self.resend, self.outstayed)

    def begin(self, limit: float) -> None:
        """A connection is open: something has to come by then, and a welcome."""
        self.close = self.silent = limit
        self.renew = self.refill = self.resend = self.outstayed = NEVER

"""Asks the node in this container for one path, `/healthz` or `/readyz`; exit 0 on 200, else 1 with the reason.

Nothing but the standard library, and no proxy between: the check of a container runs every few seconds.
"""

import http.client
import os
import sys


def main(path: str) -> int:
    """The exit code for the answer to `path`."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("TIDEGATE_PORT", "8001")), timeout=4)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        reason = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer: {error}\n")
        return 1
    if answer.status != 200:
        sys.stderr.write(f"{answer.status} {reason}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

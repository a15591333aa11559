"""The load test as its users run it: a Locust process of its own, since Locust makes a process gevent's."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.nodes import ROOT
from tests.support.secrets import SECRETS
from tests.support.tokens import SECRET
from tests.support.wait import block_until

_LIMIT_S = 60.0


class Done(NamedTuple):
    """How it went."""

    code: int
    output: str
    log: str
    requests: dict[str, dict[str, Any]]  # Locust's statistics, by the name of the request

    @property
    def verdict(self) -> str:
        """The line that says it; empty where there is none."""
        return next((line for line in self.output.splitlines() if line.startswith("verdict: ")), "")

    def count(self, name: str) -> int:
        """How many requests of this name there were."""
        return int(self.requests[name]["num_requests"]) if name in self.requests else 0


def storm(urls: Sequence[str], folder: Path, *flags: str, secret: str = SECRET, until: str | None = None) -> Done:
    """Run it to its end. `until`: stop it (SIGTERM) once its running table, which comes every two seconds, has this."""
    statistics = folder / "statistics"  # Locust adds the suffix
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"]
    command += ["--json-file", str(statistics), "--host", ",".join(urls), *flags]
    command += ["--only-summary"] if until is None else []
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "LOCUST_"))}
    environment = clean | {"PYTHONPATH": str(ROOT), "TIDEGATE_JWT_SECRET": secret}
    output, log = folder / "locust.out", folder / "locust.err"
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            if until is not None:
                block_until(lambda: until in output.read_text() + log.read_text(), _LIMIT_S, f"the storm says {until!r}")
                process.send_signal(signal.SIGTERM)
            code = process.wait(_LIMIT_S)
        finally:
            process.kill()
            process.wait()
    entries = json.loads(statistics.with_suffix(".json").read_text())
    done = Done(code, output.read_text(), log.read_text(), {entry["name"]: entry for entry in entries})
    assert SECRETS.found_in(done.output + done.log) == []
    return done

"""What has to be there when a storm begins, and is found out before anything is started: a place for its report, its ports."""

import socket
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryFile

from loadtest import report

LOOPBACK = "127.0.0.1"


def lacking(options: Namespace, *, page: bool) -> list[str]:
    """What is not: one line for each. `page`: with Locust's page, whose port is the one that is listened on."""
    found = [] if options.report is None else _unwritable(options.report)
    if page:
        found += _taken("--web-port", "" if options.web_host == "*" else options.web_host, options.web_port)
    elif options.prometheus_port is not None:
        found += _taken("--prometheus-port", LOOPBACK, options.prometheus_port)
    return found


def _unwritable(told: str) -> list[str]:
    """The folder is made, and a file in it that goes at once."""
    path = Path(told)
    if told.endswith("/") or path.is_dir():
        return [f"--report: takes the path of a file, without its suffix, got the folder {told!r}"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
        for suffix in (".json", ".html"):
            file = report.beside(path, suffix)
            if file.exists():
                file.open("ab").close()
    except OSError as error:
        return [f"--report: takes a path that can be written to, got {told!r}: {error.strerror}"]
    return []


def _taken(flag: str, host: str, port: int) -> list[str]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as whoever listens there does
            bound.bind((host, port))
            bound.listen()
    except (OSError, OverflowError) as error:
        return [f"{flag}: takes a port that is free, got {port}: {error}"]
    return []

"""What is not there when a storm begins is told before anything is started."""

import socket
from argparse import Namespace
from pathlib import Path

from loadtest.beginnings import LOOPBACK, lacking


def told(*, page: bool = False, **options: object) -> list[str]:
    given = {"report": None, "web_host": LOOPBACK, "web_port": 0, "prometheus_port": None}
    return lacking(Namespace(**given | options), page=page)


def test_a_report_has_a_place(tmp_path: Path) -> None:
    """Its folder is made, nothing is left in it; a folder is no place, and neither is one below a file."""
    assert told(report=str(tmp_path / "new" / "report")) == []
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (f"{tmp_path}/none/", str(tmp_path)):
        assert told(report=folder) == [f"--report: takes the path of a file, without its suffix, got the folder {folder!r}"]
    assert told(report=f"{tmp_path}/file/report")[0].startswith("--report: takes a path that can be written to, got ")
    (tmp_path / "report.html").mkdir()
    assert told(report=str(tmp_path / "report"))[0].endswith(": Is a directory")


def test_a_port_that_somebody_has_is_told() -> None:
    """By the flag that asks for it: the page's where there is a page, the one for Prometheus where there is none."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        assert told(page=True, web_port=port)[0].startswith(f"--web-port: takes a port that is free, got {port}: ")
        assert told(page=True, web_port=port, web_host="*")[0].startswith("--web-port: ")
        assert told(prometheus_port=port)[0].startswith(f"--prometheus-port: takes a port that is free, got {port}: ")
        assert told(page=True, prometheus_port=port) == told(web_port=port) == []
    assert told(prometheus_port=port) == []

"""A real HAProxy in front of a cluster, configured as docs/operations.md says."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.nodes import ROOT, Cluster
from tests.support.wait import block_until

_PAGE = ROOT / "docs" / "operations.md"
_START_S = 10.0


def configuration(cluster: Cluster, port: int) -> str:
    """The page's example for these nodes: on a loopback port, without TLS."""
    found = re.search(r"(?m)^HAProxy.*\n\n```\n((?:.*\n)*?)```$", _PAGE.read_text())
    assert found is not None, "docs/operations.md shows no configuration of HAProxy"
    text, binds = re.subn(r"(?m)^( +bind ).*$", rf"\g<1>127.0.0.1:{port}", found[1])
    assert binds == 1
    for node in cluster:
        text, servers = re.subn(rf"(?m)^( +server {node.id} ).*$", rf"\g<1>{node.url.removeprefix('http://')}", text)
        assert servers == 1
    return text


@contextmanager
def haproxy(cluster: Cluster) -> Iterator[str]:
    """The URL of a proxy in front of the running nodes; it ends with the block."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "these tests need HAProxy"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = cluster.folder / "haproxy.cfg"
    file.write_text(configuration(cluster, port))
    with (cluster.folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, "-db", "-f", str(file)], stdout=log, stderr=log)
    try:
        block_until(lambda: _listens(process, port, cluster.folder), _START_S, "HAProxy listens")
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, _said(cluster.folder)
    finally:
        process.kill()
        process.wait()


def _listens(process: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    assert process.poll() is None, _said(folder)
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _said(folder: Path) -> str:
    return (folder / "haproxy.log").read_text()

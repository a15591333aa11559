"""A real HAProxy in front of a cluster, with the configuration that docs/operations.md shows."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from node.cli.haproxy import configuration, program
from tests.support.nodes import Cluster
from tests.support.wait import block_until

_START_S = 10.0


@contextmanager
def haproxy(cluster: Cluster) -> Iterator[str]:
    """The URL of a proxy in front of the running nodes; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = cluster.folder / "haproxy.cfg"
    nodes = {node.id: node.url.removeprefix("http://") for node in cluster}
    file.write_text(configuration(bind=f"127.0.0.1:{port}", nodes=nodes))
    with (cluster.folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program(), "-db", "-f", str(file)], stdout=log, stderr=log)
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

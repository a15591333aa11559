"""HAProxy in front of the nodes: the one configuration that `tidegate up`, docs/operations.md and the tests have of it."""

import os
import shutil
from collections.abc import Mapping, Sequence

INSIDE = ("/metrics", "/dev/token")  # ask for no token: not for whoever reaches the proxy


def program() -> str:
    """The path of HAProxy: in PATH, or where that has /usr/bin, in /usr/sbin. Raises `FileNotFoundError` where it is not installed."""
    path = os.environ.get("PATH", os.defpath)
    found = shutil.which("haproxy", path=f"{path.replace('/bin', '/sbin')}:{path}")
    if found is None:
        raise FileNotFoundError("HAProxy is not installed")
    return found


def configuration(*, bind: str, nodes: Mapping[str, str], denied: Sequence[str] = INSIDE, silence_s: int = 60) -> str:
    """The text of a file for HAProxy 2.4 or later; what it does and why is in docs/operations.md.

    `bind` is what `bind` takes (`:443 ssl crt FILE`), `nodes` has `host:port` by the node's name, `denied` the paths that are answered
    403, `silence_s` how long a connection may be silent: more than ping interval and ping timeout together.
    """
    servers = "\n".join(f"    server {name} {address}" for name, address in nodes.items())
    return f"""\
defaults
    mode http
    timeout connect 2s
    timeout check 2s
    timeout client {silence_s}s
    timeout server {silence_s}s
    timeout tunnel {silence_s}s

frontend chat
    bind {bind}
    http-request deny if {{ path,url_dec {" ".join(denied)} }}
    default_backend nodes

backend nodes
    balance leastconn
    option httpchk GET /readyz
    option redispatch 1
    force-persist if {{ nbsrv eq 0 }}
    use-server %[url_param(sid),field(1,.)] if {{ url_param(sid) -m found }}
    default-server check inter 500ms fall 1 rise 1
{servers}
"""

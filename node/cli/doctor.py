"""`tidegate doctor`: checks what a node needs before it starts, and what it has while it runs; one line each."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from node.auth.configured import check_supported, fixed_keys, issuer_of
from node.auth.key_set import FetchFailed, KeySet
from node.auth.keys import HMAC_ALGORITHMS, Key
from node.cli import clock, probe, run_record
from node.cli.dev_secret import dev_secret_file
from node.cli.doctor_log import Finding, examine_log, fail, fine, warn
from node.cli.flags import Command
from node.config import SETTINGS, ConfigurationError, Settings

_WEB = Path(__file__).parents[1] / "edge" / "web"
_FEW_BYTES, _TOO_FEW_BYTES = 1 << 30, 64 << 20  # free space: a read model of a million events takes some hundred MiB
_FEW_CHARACTERS = 8  # different ones in a secret; base64 of 32 random bytes has about 26
_ISSUERS = ("jwks_url", "oidc_issuer")
_LOCAL = ("127.0.0.1", "::1", "localhost")
_STYLES = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


def doctor(settings: Settings | ConfigurationError) -> int:
    """Check configuration, keys, clock, data, log, read model, port and page of one node; one line each, exit 1 if any fails.

    Where `tidegate up` runs in the data folder, its nodes are looked at where they are, whatever --port says.
    Nothing is changed: the log is opened and its lock taken for a moment, but nothing is appended.
    """
    return asyncio.run(_examine(settings))


async def _examine(settings: Settings | ConfigurationError) -> int:
    console = Console(soft_wrap=True)
    failed = False
    async for finding in _findings(settings):
        failed |= finding.level == "FAIL"
        console.print(Text(f"{finding.level:<5}", style=_STYLES[finding.level]) + Text(f"{finding.subject:<14} {finding.text}"))
    return 1 if failed else 0


async def _findings(settings: Settings | ConfigurationError) -> AsyncIterator[Finding]:
    if isinstance(settings, ConfigurationError):
        for problem in settings.problems:
            yield fail("configuration", problem)
        return
    try:
        check_supported(settings)
    except ConfigurationError as error:
        for problem in error.problems:
            yield fail("configuration", problem)
        return
    yield _configuration(settings)
    for finding in [*_keys(settings), *await _issuer(settings), *_clock(settings), _data(settings)]:
        yield finding
    cluster = run_record.running(settings.data)
    if cluster is not None and cluster.log != run_record.log_of(settings.log):
        yield warn(
            "log", f"the cluster that runs in {settings.data} has its log at {cluster.log}: say --log with it to ask that one"
        )
    async for finding in examine_log(settings):
        yield finding
    for finding in await _cluster(settings, cluster) if cluster is not None else ():
        yield finding
    if cluster is None or settings.node_id not in cluster.nodes:
        yield await _port(settings)
    yield _page()


def _configuration(settings: Settings) -> Finding:
    usual = Settings().shown()
    own = [f"{name}={value}" for name, value in settings.shown().items() if value != usual[name]]
    return fine("configuration", f"node {settings.node_id}; set: {', '.join(own) or 'nothing, all defaults'}")


def _keys(settings: Settings) -> Iterator[Finding]:
    others = [name for name in _ISSUERS if getattr(settings, name)]
    file = dev_secret_file(settings.data)
    if not (settings.jwt_secret or settings.jwt_public_key_file or others):
        if file.exists():
            yield fine("keys", f"none configured; `tidegate up` uses its own in {file}")
        else:
            ways = ", ".join(SETTINGS[name].variable for name in ("jwt_secret", "jwt_public_key_file", *_ISSUERS))
            needed = f"a node does not start without one. `tidegate up` makes its own in {file}; for all else set one of {ways}"
            yield fail("keys", f"none, and {needed}")
        return
    algorithms = ", ".join(sorted(settings.algorithms))
    if settings.jwt_secret and not settings.algorithms & HMAC_ALGORITHMS:
        yield fail("keys", f"a secret is configured, but TIDEGATE_JWT_ALGORITHMS ({algorithms}) has none that takes a secret")
    sizes = [f"{f'kid {kid}, ' if kid else ''}{len(secret.encode())} bytes" for kid, secret in settings.jwt_secret.items()]
    public = [key for key in fixed_keys(settings).keys if not key.algorithms <= HMAC_ALGORITHMS]
    counted = [f"{len(public)} in {settings.jwt_public_key_file}"] if public else []
    yield fine("keys", f"{algorithms}; " + "; ".join([*(f"secret of {size}" for size in sizes), *counted, *others]))
    yield from _useless(settings, public, "the PEM file")
    if any(len(set(secret)) < _FEW_CHARACTERS for secret in settings.jwt_secret.values()):
        yield warn(
            "keys", "a secret consists of a few characters over and over: it can be guessed; `openssl rand -base64 48` makes one"
        )
    if settings.dev_issuer and settings.host not in _LOCAL:
        yield warn("keys", f"the dev issuer is on: whoever reaches {settings.host} can sign in under any name")


def _useless(settings: Settings, keys: Iterable[Key], where: str) -> Iterator[Finding]:
    """Keys that the allow-list leaves without a use."""
    idle = sum(1 for key in keys if not key.algorithms & settings.algorithms)
    if idle:
        algorithms = ", ".join(sorted(settings.algorithms))
        yield fail("keys", f"{idle} of {where} can verify none of TIDEGATE_JWT_ALGORITHMS ({algorithms})")


async def _issuer(settings: Settings) -> list[Finding]:
    """Whether the key set can be had, and is of use."""
    issuer = issuer_of(settings)
    if issuer is None:
        return []
    from node.auth.key_fetch import KeyFetcher  # noqa: PLC0415  an HTTP client, for who has an issuer

    try:
        found: KeySet = await KeyFetcher(issuer).fetch()
    except FetchFailed as failure:
        return [fail("key set", f"{failure}; tokens of its keys are answered keys_unavailable")]
    left_out = [warn("key set", f"left out: {reason}") for reason in found.ignored]
    if not found.keys:
        return [*left_out, fail("key set", "has no key that can be used: every token is refused")]
    kids = ", ".join(key.kid or "(no kid)" for key in found.keys)
    return [fine("key set", f"keys: {len(found.keys)} ({kids})"), *left_out, *_useless(settings, found.keys, "the key set")]


def _clock(settings: Settings) -> Iterable[Finding]:
    newest = clock.newest_change(settings)
    if newest is not None and newest.ahead_s > clock.MOST_AHEAD_S:
        yield fail(
            "clock", f"{newest.path} was changed {newest.ahead_s:.0f} s in the future: this clock is behind, or was set back"
        )
        return
    told = clock.now() + (", not before the last change of the log" if newest is not None else "")
    match clock.synchronised():
        case True:
            yield fine("clock", f"{told}; the kernel says it is kept by NTP")
        case False:
            yield warn("clock", f"{told}; it is not synchronised (no NTP, says the kernel), and tokens end by it")
        case None:
            yield fine("clock", f"{told}; whether anybody keeps it cannot be asked here")


def _data(settings: Settings) -> Finding:
    folder = settings.data
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if folder.exists():
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"tidegate")
        except OSError as error:
            return fail("data", f"{folder} cannot be written: {error.strerror}")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        return fail("data", f"{folder} is not there, and cannot be made in {nearest}")
    free = shutil.disk_usage(nearest).free
    text = f"{folder} {'can be written' if folder.exists() else 'will be made'}, {free / (1 << 30):.1f} GiB free"
    return fail("data", text) if free < _TOO_FEW_BYTES else warn("data", text) if free < _FEW_BYTES else fine("data", text)


async def _cluster(settings: Settings, cluster: run_record.Cluster) -> list[Finding]:
    """What `tidegate up` runs in the data folder: one line for all of its nodes that are ready, and one for each that is not."""
    answers = await asyncio.gather(*(_not_ready(cluster.host, port) for port in cluster.nodes.values()))
    asked = dict(zip(cluster.nodes, answers, strict=True))
    at = {name: probe.url(cluster.host, port) for name, port in cluster.nodes.items()}
    ready = ", ".join(f"{name} at {at[name]}" for name, why in asked.items() if not why)
    up = f"`tidegate up` (process {cluster.pid}) runs in {settings.data}"
    found = [fine("cluster", f"{up}; ready: {ready}")] if ready else [warn("cluster", f"{up}, and none of its nodes is ready")]
    return found + [warn("cluster", f"{name} at {at[name]} is not ready: {why}") for name, why in asked.items() if why]


async def _not_ready(host: str, port: int) -> str:
    """Why the node there is not ready; empty where it is."""
    ready = await probe.get(host, port, "/readyz")
    if ready is None or ready.status != 200:
        return ("" if ready is None else " ".join(ready.body.decode(errors="replace").split())) or "no answer"
    return ""


async def _port(settings: Settings) -> Finding:
    where = f"{settings.host}:{settings.port}"
    if settings.port == 0:
        return fine("port", "picked at the start")
    try:
        probe.bound(settings.host, settings.port).close()
    except OSError as error:
        answer = await probe.get(settings.host, settings.port, "/config.json")
        found = None if answer is None else probe.node_of(answer)
        if found is None:
            return fail("port", f"{where} cannot be had: {error.strerror}")
        if found != settings.node_id:
            return fail("port", f"node {found} serves on {where}, not {settings.node_id}")
        if why := await _not_ready(settings.host, settings.port):
            return warn("port", f"node {found} serves on {where}, and is not ready: {why}")
        return fine("port", f"node {found} serves on {where}, and is ready")
    return fine("port", f"{where} is free")


def _page() -> Finding:
    missing = [name for name in ("index.html", "tidegate.js") if not (_WEB / name).is_file()]
    if missing:
        return fail("page", f"{', '.join(missing)} missing in {_WEB}: this installation is not whole")
    if not any((_WEB / "vendor").glob("**/*.js")):
        return warn("page", "its libraries are not here: with Node.js and npm installed, `make page` brings them")
    return fine("page", "its files are here")


COMMAND = Command(run=doctor, settings=("node_id", "host", "port", "log", "partitions", "data"), judged=False)

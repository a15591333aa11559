"""Every setting, written once: its variable, its flag, its default, what it takes and what it means.

The table is the struct `Settings` (with `node.core.limits.Limits` inside). A setting `jwt_issuer` is the variable
`TIDEGATE_JWT_ISSUER` and the flag `--jwt-issuer` of `tidegate node`; a secret one is also
read from the file named by `…_FILE` or `--…-file`. A flag goes before a variable.
What is set to nothing (`TIDEGATE_ORIGINS=`) counts as not set.
"""

import difflib
import os
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from broker.address import Address, SqliteAddress
from node import config_values as take
from node.config_values import Kind, Taken
from node.core.limits import Limits

PREFIX = "TIDEGATE_"
_MOST_SECRET_FILE = 1_048_576  # bytes; a key set is a few KiB

# Kubernetes gives a container variables for each Service: one that is called `tidegate…` would look like ours.
_FOREIGN = re.compile(r"TIDEGATE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)\Z")
_OTHERS = ("TIDEGATE_TEST_", "TIDEGATE_BENCH_", "TIDEGATE_STORM_")  # read by tests, benchmarks and storms, not by a node


class ConfigurationError(Exception):
    """What is wrong with the configuration: one line for each problem, without any secret. A command exits 2 on it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one node. Its `repr` holds no secret. `load` makes it; tests may build it from keywords."""

    node_id: Annotated[str, Kind(take.node_id, "short name of this node, unique in the cluster")] = "n1"
    host: Annotated[str, Kind(take.host, "where it listens")] = "127.0.0.1"
    port: Annotated[int, Kind(take.port, "where it listens; 0 picks a free port and prints it")] = 8001
    metrics_port: Annotated[
        int | None, Kind(take.port, "where /metrics is, on the same host and apart from all else (default: on the port)")
    ] = None
    log: Annotated[Address, Kind(take.log, "the event log of the cluster", secret=True)] = SqliteAddress(
        Path("tidegate-data/log.db")
    )
    partitions: Annotated[int, Kind(take.whole(1, 256), "partitions of the log; fixed once the log exists")] = 8
    data: Annotated[Path, Kind(take.folder, "folder of this node's read model")] = Path("tidegate-data")

    jwt_algorithms: Annotated[
        tuple[str, ...], Kind(take.algorithms, "allow-list (default: HS256 with a secret, else RS256,ES256,EdDSA)")
    ] = ()
    jwt_secret: Annotated[
        dict[str | None, str], Kind(take.secrets, "HMAC key, or several for rotation as kid:secret,kid:secret", secret=True)
    ] = {}
    jwt_public_key_file: Annotated[Path | None, Kind(take.public_keys, "PEM file of one or more public keys")] = None
    jwks_url: Annotated[str | None, Kind(take.url, "where the key set is", secret=True)] = None
    oidc_issuer: Annotated[str | None, Kind(take.url, "issuer whose key set is discovered", secret=True)] = None
    jwks_refresh_seconds: Annotated[float, Kind(take.seconds(1, 86_400), "how often the key set is fetched")] = 300.0
    jwks_cooldown_seconds: Annotated[
        float, Kind(take.seconds(1, 3_600), "it is fetched at once when a token's key is missing, at most this often")
    ] = 10.0
    jwks_stale_seconds: Annotated[
        float, Kind(take.seconds(1), "how long the last key set is gone by while the issuer is away")
    ] = 3_600.0
    jwks_allow_http: Annotated[
        bool,
        Kind(take.switch, "1 lets the key set come over plain HTTP from another machine: whoever is on the way can forge it"),
    ] = False
    jwt_issuer: Annotated[str | None, Kind(take.text, "required `iss` (default: the OIDC issuer)")] = None
    jwt_audience: Annotated[str | None, Kind(take.text, "required `aud`")] = None
    jwt_leeway_seconds: Annotated[float, Kind(take.seconds(0, 300), "clock skew allowed on nbf and iat; never extends exp")] = 5.0
    jwt_max_ttl_seconds: Annotated[
        float, Kind(take.seconds(0), "a token that lives longer is refused, and one without `iat`; 0 is no cap")
    ] = 0.0

    handshake: Annotated[
        Literal["namespace", "global", "both"],
        Kind(take.one_of("namespace", "global", "both"), "where the token is judged: Socket.IO CONNECT, HTTP request, both"),
    ] = "namespace"
    token_sources: Annotated[tuple[str, ...], Kind(take.token_sources, "where a token may be, in order of preference")] = (
        "auth",
        "header",
    )
    two_step_seconds: Annotated[
        float, Kind(take.seconds(0, 3_600), "over 0: a socket may connect bare and authenticates within this time")
    ] = 0.0
    connect_timeout_seconds: Annotated[
        float, Kind(take.seconds(0.1, 3_600), "a connection with no accepted namespace is closed after this")
    ] = 5.0
    refresh_window_seconds: Annotated[
        float, Kind(take.seconds(0, 86_400), "how long before exp renewals are spread over; never over half the token's life")
    ] = 60.0
    handshake_rate: Annotated[float, Kind(take.number(0), "admitted handshakes a second; 0 is measured by the node")] = 0.0
    handshake_burst: Annotated[int, Kind(take.whole(0, 1_000_000), "handshakes admitted at once; 0 is adapted by the node")] = 0
    max_sessions: Annotated[int, Kind(take.whole(1, 10_000_000), "hard cap of this node")] = 50_000
    ping_interval_seconds: Annotated[float, Kind(take.seconds(0.1, 3_600), "Engine.IO heartbeat")] = 25.0
    ping_timeout_seconds: Annotated[float, Kind(take.seconds(0.1, 3_600), "how long a heartbeat's answer may take")] = 20.0
    transports: Annotated[tuple[str, ...], Kind(take.some_of("websocket", "polling"), "Engine.IO transports")] = (
        "websocket",
        "polling",
    )
    origins: Annotated[
        tuple[str, ...] | Literal["*"] | None, Kind(take.origins, "allowed browser origins (default: the same origin)")
    ] = None
    dev_issuer: Annotated[bool, Kind(take.switch, "1 serves /dev/token to anyone: for trials on one's own machine")] = False

    peers: Annotated[tuple[str, ...], Kind(take.urls, "public URLs of all nodes, told to the page")] = ()
    drain_seconds: Annotated[float, Kind(take.seconds(0, 3_600), "how long a node that was asked to stop takes its leave")] = 10.0
    log_format: Annotated[
        Literal["json", "text"] | None, Kind(take.one_of("json", "text"), "how it logs (default: text on a terminal, else json)")
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Kind(take.one_of("debug", "info", "warning", "error"), "what it logs"),
    ] = "info"
    trace_url: Annotated[
        str | None, Kind(take.url, "OTLP/HTTP collector of OpenTelemetry to send traces to (default: none are made)", secret=True)
    ] = None
    trace_share: Annotated[float, Kind(take.number(0, 1), "of the commands, which are traced where there is a collector")] = 1.0
    limits: Limits = Limits()

    @property
    def algorithms(self) -> frozenset[str]:
        """The allow-list in force."""
        default = ("HS256",) if self.jwt_secret else ("RS256", "ES256", "EdDSA")
        return frozenset(self.jwt_algorithms or default)

    @property
    def token_issuer(self) -> str | None:
        """The `iss` that a token must have: an OpenID Connect issuer's are its own (its Core 1.0, section 3.1.3.7)."""
        return self.jwt_issuer or self.oidc_issuer

    def __repr__(self) -> str:
        shown = (f"{key}={value}" for key, value in self.shown().items())
        return f"Settings({', '.join(shown)})"

    def shown(self) -> dict[str, str]:
        """Every setting by its name, as it may be printed: no secret and no part of one."""
        flat = {name: getattr(self, name) for name in self.__struct_fields__ if name != "limits"}
        flat |= {"log": str(self.log), **msgspec.structs.asdict(self.limits)}
        flat |= {name: "(set)" for name in ("jwt_secret", "jwks_url", "oidc_issuer", "trace_url") if flat[name]}
        return {name: str(value) for name, value in flat.items()}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    takes: str
    meaning: str
    default: str  # as one would write it
    secret: bool
    parse: Callable[[str], Any]

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def from_file(self) -> bool:
        """Whether the value may also be read from a file."""
        return self.secret


def _table() -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    hints = typing.get_type_hints(Settings, include_extras=True)
    defaults = Settings()
    for name in Settings.__struct_fields__:
        if name == "limits":
            continue
        (kind,) = (extra for extra in hints[name].__metadata__ if isinstance(extra, Kind))
        found[name] = Setting(
            name=name,
            takes=kind.takes.takes,
            meaning=kind.meaning,
            default=_written(getattr(defaults, name)),
            secret=kind.secret,
            parse=kind.takes.parse,
        )
    for field in msgspec.structs.fields(Limits):
        takes = take.whole(1, 2**31 - 1) if field.type is int else take.number(0.001)
        meaning = f"limit: {field.name.replace('_', ' ')}"
        written = _written(field.default)
        found[field.name] = Setting(
            name=field.name, takes=takes.takes, meaning=meaning, default=written, secret=False, parse=takes.parse
        )
    return found


def _written(value: Any) -> str:
    match value:
        case None | () | {}:
            return ""
        case bool():
            return str(int(value))
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(value)
        case _:
            return str(value)


#: All settings by name, in the order of the documentation.
SETTINGS: Mapping[str, Setting] = _table()


class _Given(msgspec.Struct, frozen=True):
    """A raw value and the name under which the user gave it."""

    value: str
    where: str


def load(flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ, *, serving: bool = False) -> Settings:
    """The settings of `flags` (by name, `_file` names included; None is not given) and the environment.

    `serving` asks for what only a node needs: a key to verify tokens with. Raises `ConfigurationError` with all problems.
    """
    problems = _unknown_variables(environment)
    values: dict[str, Any] = {}
    for setting in SETTINGS.values():
        given = _find(setting, flags, environment, problems)
        if given is None:
            continue
        try:
            values[setting.name] = setting.parse(given.value)
        except ValueError as error:
            problems.append(f"{given.where}: takes {setting.takes}, got {error}")
    problems += _missing(values, problems, serving=serving)
    if problems:
        raise ConfigurationError(problems)
    limits = {field: values.pop(field) for field in Limits.__struct_fields__ if field in values}
    return Settings(limits=Limits(**limits), **values)


def _find(
    setting: Setting, flags: Mapping[str, str | None], environment: Mapping[str, str], problems: list[str]
) -> _Given | None:
    """The setting's raw value: of the flags first, then of the environment; each plain or, for a secret, in a file."""
    file_name = f"{setting.name}_file"
    for plain, in_file, where in (
        (flags.get(setting.name), flags.get(file_name), setting.flag),
        (environment.get(setting.variable), environment.get(f"{setting.variable}_FILE"), setting.variable),
    ):
        where_file = f"{where}-file" if where.startswith("--") else f"{where}_FILE"
        if setting.from_file and in_file:
            if plain:
                problems.append(f"{where_file}: takes the place of {where}, got both")
                return None
            return _read(in_file, where_file, problems)
        if plain:
            return _Given(plain, where)
    return None


def _read(path: str, where: str, problems: list[str]) -> _Given | None:
    try:
        with open(path, "rb") as file:
            value = file.read(_MOST_SECRET_FILE).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        problems.append(f"{where}: takes the path of a readable file, got {path!r} ({reason})")
        return None
    if not value:
        problems.append(f"{where}: takes the path of a file with the value in it, got {path!r} (empty)")
        return None
    return _Given(value, where)


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = [setting.variable for setting in SETTINGS.values()]
    known += [f"{setting.variable}_FILE" for setting in SETTINGS.values() if setting.from_file]
    problems = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in known or name.startswith(_OTHERS) or _FOREIGN.match(name):
            continue
        problems.append(f"{name}: is not a setting{suggestion(name, known)}")
    return problems


def suggestion(name: str, known: list[str]) -> str:
    """`; did you mean …?` where one of `known` is close to `name`, else nothing."""
    bare = {one.removeprefix(PREFIX): one for one in known}  # what all have in common makes none of them alike
    close = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1, cutoff=0.7)
    return f"; did you mean {bare[close[0]]}?" if close else ""


_KEYS = ("jwt_secret", "jwt_public_key_file", "jwks_url", "oidc_issuer")


def _missing(values: Mapping[str, Any], problems: list[str], *, serving: bool) -> list[str]:
    """What is wrong with the settings together. A key that was given and is bad has been told already."""
    told = " ".join(line.split(":", 1)[0].removesuffix("_FILE").removesuffix("-file") for line in problems).split()
    bad = {name for name in _KEYS if {SETTINGS[name].variable, SETTINGS[name].flag} & set(told)}
    bad |= {"jwt_public_key_file"} & {n for n in _KEYS if f"{PREFIX}JWT_PUBLIC_KEY" in told or "--jwt-public-key" in told}
    if not serving or bad:
        return []
    if values.get("dev_issuer") and "jwt_secret" not in values:
        return [f"{PREFIX}JWT_SECRET: takes at least 32 bytes for the dev issuer to sign with, got nothing"]
    if not any(name in values for name in _KEYS):
        others = ", ".join(SETTINGS[name].variable for name in _KEYS[1:])
        return [f"{PREFIX}JWT_SECRET: takes a key to verify tokens with (or one of {others}), got nothing"]
    return []


def require(taken: Taken, text: str, where: str) -> Any:
    """One value of a command's own flag. Raises `ConfigurationError` in the words of the settings."""
    try:
        return taken.parse(text)
    except ValueError as error:
        _fail(f"{where}: takes {taken.takes}, got {error}")


def _fail(problem: str) -> NoReturn:
    raise ConfigurationError([problem])

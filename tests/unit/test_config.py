"""Every setting: read from flags, variables and files; every fault told at once, one line each, without a secret."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.address import AmqpAddress, MemoryAddress, SqliteAddress
from node.config import SETTINGS, ConfigurationError, Settings, load, require
from node.config_values import port
from node.core.limits import Limits

SECRET = "s3cr3t-" * 5 + "!"
OTHER = "0th3r--" * 5 + "!"
PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"


def problems(environment: dict[str, str], flags: dict[str, str | None] | None = None, *, serving: bool = False) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(flags or {}, environment, serving=serving)
    assert str(raised.value) == "\n".join(raised.value.problems)
    assert all("\n" not in line and line for line in raised.value.problems)
    return raised.value.problems


def test_defaults_are_the_contracts() -> None:
    """With nothing set, PROTOCOL section 2's defaults hold."""
    settings = load({}, {})
    assert settings == Settings()
    assert (settings.node_id, settings.host, settings.port, settings.partitions) == ("n1", "127.0.0.1", 8001, 8)
    assert settings.log == SqliteAddress(Path("tidegate-data/log.db"))
    assert (settings.jwt_leeway_seconds, settings.jwt_max_ttl_seconds, settings.two_step_seconds) == (5, 0, 0)
    assert (settings.connect_timeout_seconds, settings.refresh_window_seconds) == (5, 60)
    assert (settings.ping_interval_seconds, settings.ping_timeout_seconds, settings.max_sessions) == (25, 20, 50_000)
    assert (settings.handshake, settings.token_sources) == ("namespace", ("auth", "header"))
    assert (settings.transports, settings.origins, settings.dev_issuer) == (("websocket", "polling"), None, False)
    assert settings.limits == Limits()
    assert (settings.limits.text_chars, settings.limits.payload_bytes, settings.limits.token_bytes) == (4_000, 65_536, 8_192)
    assert (settings.limits.commands_per_second, settings.limits.commands_burst, settings.limits.outbox_bytes) == (
        20,
        40,
        1_048_576,
    )


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_takes_its_own_default(setting: Any) -> None:
    """The documented default, given as a value, is accepted and changes nothing; names are the variable's words."""
    assert setting.variable == "TIDEGATE_" + setting.name.upper()
    assert setting.flag == "--" + setting.name.replace("_", "-")
    assert setting.takes
    assert setting.meaning
    if setting.default:
        assert load({}, {setting.variable: setting.default}) == Settings()
        assert load({setting.name: setting.default}, {}) == Settings()


GOOD: list[tuple[str, str, Any]] = [
    ("NODE_ID", "a-9", "a-9"),
    ("HOST", "::1", "::1"),
    ("PORT", "0", 0),
    ("LOG", "memory:", MemoryAddress()),
    ("LOG", "sqlite:////tmp/x.db", SqliteAddress(Path("/tmp/x.db"))),
    ("LOG", "amqp://u:p@a,b:1/v", AmqpAddress(("amqp://u:p@a/v", "amqp://u:p@b:1/v"))),
    ("PARTITIONS", "256", 256),
    ("JWT_ALGORITHMS", "HS256, ES256", ("HS256", "ES256")),
    ("JWT_SECRET", SECRET, {None: SECRET}),
    ("JWT_SECRET", "x" * 32, {None: "x" * 32}),
    ("JWT_SECRET", "\u00e9" * 16, {None: "\u00e9" * 16}),
    ("JWT_SECRET", f"a:{SECRET},b.2:{OTHER}", {"a": SECRET, "b.2": OTHER}),
    ("JWT_SECRET", f"a:{SECRET}", {"a": SECRET}),
    ("JWT_SECRET", "short:but-over-32-bytes-in-all-as-a-whole"[:34], {None: "short:but-over-32-bytes-in-all-as-a-whole"[:34]}),
    ("JWT_SECRET", "commas,and:colons," * 3, {None: "commas,and:colons," * 3}),
    ("JWT_LEEWAY_SECONDS", "0.5", 0.5),
    ("HANDSHAKE", "both", "both"),
    ("TOKEN_SOURCES", "cookie:sid,query", ("cookie:sid", "query")),
    ("TRANSPORTS", "polling", ("polling",)),
    ("ORIGINS", "*", "*"),
    ("ORIGINS", "https://A.example:443/, http://b:8080", ("https://a.example", "http://b:8080")),
    ("DEV_ISSUER", "0", False),
    ("PING_INTERVAL_SECONDS", ".5", 0.5),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD, ids=range(len(GOOD)))
def test_values(name: str, text: str, value: Any) -> None:
    """What each kind of setting takes, from a variable and from a flag."""
    key = name.lower()
    assert getattr(load({}, {f"TIDEGATE_{name}": text}), key) == value
    assert getattr(load({key: text}, {}), key) == value


BAD: list[tuple[str, str]] = [
    ("NODE_ID", "N1"),
    ("NODE_ID", "a" * 33),
    ("NODE_ID", "n1\n"),
    ("HOST", "a b"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("PORT", "80.0"),
    ("PORT", "\u0661"),
    ("PORT", "eighty"),
    ("PARTITIONS", "0"),
    ("PARTITIONS", "9" * 400),
    ("LOG", "log.db"),
    ("LOG", "sqlite://log.db"),
    ("LOG", "redis://x"),
    ("LOG", "amqp://"),
    ("JWT_ALGORITHMS", "none"),
    ("JWT_ALGORITHMS", "HS256,HS256"),
    ("JWT_ALGORITHMS", "hs256"),
    ("JWT_ALGORITHMS", "HS256,"),
    ("JWT_SECRET", "x" * 31),
    ("JWT_SECRET", f"a:{SECRET},b:short"),
    ("JWT_SECRET", f"a:{SECRET},a:{OTHER}"),
    ("JWT_SECRET", PEM),
    ("JWT_SECRET", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ"),
    ("JWT_PUBLIC_KEY_FILE", "/nowhere/key.pem"),
    ("JWKS_URL", "ftp://keys"),
    ("JWKS_URL", "https://"),
    ("OIDC_ISSUER", "https://a b"),
    ("JWT_ISSUER", "a\nb"),
    ("JWT_LEEWAY_SECONDS", "301"),
    ("JWT_LEEWAY_SECONDS", "nan"),
    ("JWT_LEEWAY_SECONDS", "1e3"),
    ("HANDSHAKE", "never"),
    ("TOKEN_SOURCES", "body"),
    ("TOKEN_SOURCES", "cookie:"),
    ("TOKEN_SOURCES", "cookie:a b"),
    ("TRANSPORTS", "webtransport"),
    ("ORIGINS", "https://a.example/path"),
    ("ORIGINS", "*,https://a.example"),
    ("ORIGINS", "null"),
    ("DEV_ISSUER", "yes"),
    ("PING_INTERVAL_SECONDS", "0"),
    ("MAX_SESSIONS", "0"),
    ("TEXT_CHARS", "0"),
    ("COMMANDS_PER_SECOND", "-1"),
]


@pytest.mark.parametrize(("name", "text"), BAD, ids=range(len(BAD)))
def test_bad_values(name: str, text: str) -> None:
    """One line, that names the setting as it was given, what it takes and what it got."""
    (line,) = problems({f"TIDEGATE_{name}": text})
    assert re.match(rf"TIDEGATE_{name}: takes .+, got .+", line)
    (line,) = problems({}, {name.lower(): text})
    assert line.startswith(f"--{name.lower().replace('_', '-')}: takes ")


def test_all_problems_at_once() -> None:
    """Every fault is told, each on its line, the unknown names among them."""
    environment = {f"TIDEGATE_{name}": text for name, text in dict(BAD).items()}
    environment |= {"TIDEGATE_PROT": "8001", "TIDEGATE_JWT_SECRT": SECRET, "TIDEGATE_COLOUR": "blue"}
    told = problems(environment, serving=True)
    assert len(told) == len(dict(BAD)) + 3
    assert {line.split(":", 1)[0] for line in told} == set(environment)


def test_unknown_variables() -> None:
    """A name that is close to a setting's gets the suggestion; names of others are passed over."""
    told = problems({"TIDEGATE_JWT_SECRT": SECRET, "TIDEGATE_COLOUR": "x", "TIDEGATE_PORT_FILE": "/x", "TIDEGATE_PROT": "1"})
    assert told[0] == "TIDEGATE_COLOUR: is not a setting"
    assert told[1] == "TIDEGATE_JWT_SECRT: is not a setting; did you mean TIDEGATE_JWT_SECRET?"
    assert told[2].startswith("TIDEGATE_PORT_FILE: is not a setting")
    assert told[3] == "TIDEGATE_PROT: is not a setting; did you mean TIDEGATE_PORT?"
    orchestrated = {
        "TIDEGATE_SERVICE_HOST": "10.0.0.1",
        "TIDEGATE_NODE_SERVICE_PORT_HTTP": "80",
        "TIDEGATE_PORT_80_TCP_ADDR": "x",
        "TIDEGATE_TEST_X": "1",
        "PATH": "/bin",
        "XTIDEGATE_Y": "1",
    }
    assert load({}, orchestrated) == Settings()


SECRETS: list[dict[str, str]] = [
    {"TIDEGATE_JWT_SECRET": "hunter2"},
    {"TIDEGATE_JWT_SECRET": f"a:{SECRET},b:hunter2"},
    {"TIDEGATE_JWT_SECRET": f"a:{SECRET}hunter2,a:{OTHER}"},
    {"TIDEGATE_JWT_SECRET": "-----BEGIN hunter2 with more than enough bytes"},
    {"TIDEGATE_LOG": "amqp://ann:hunter2@host:99999"},
    {"TIDEGATE_LOG": "redis://ann:hunter2@host"},
    {"TIDEGATE_LOG": "hunter2"},
    {"TIDEGATE_JWKS_URL": "ftp://ann:hunter2@host/?key=hunter2"},
    {"TIDEGATE_OIDC_ISSUER": "https://ann:hunter2@ho st"},
    {"TIDEGATE_HOST": "amqp://ann:hunter2@host"},
    {"TIDEGATE_ORIGINS": "https://ann:hunter2@host/x"},
]


@pytest.mark.parametrize("environment", SECRETS, ids=range(len(SECRETS)))
def test_messages_hold_no_secret(environment: dict[str, str]) -> None:
    """However wrong a secret is, no part of it is told, nor the login of an URL."""
    told = " ".join(problems(environment))
    assert "hunter2" not in told
    assert SECRET not in told


def test_repr_holds_no_secret() -> None:
    """Neither `repr` nor what may be shown holds a secret; everything else is there."""
    settings = load(
        {},
        {
            "TIDEGATE_JWT_SECRET": f"kid1:{SECRET},kid2:{OTHER}",
            "TIDEGATE_LOG": "amqp://ann:hunter2@rabbit-a,rabbit-b/v",
            "TIDEGATE_JWKS_URL": "https://ann:hunter2@keys/?key=hunter2",
            "TIDEGATE_OIDC_ISSUER": "https://ann:hunter2@issuer",
        },
    )
    for text in (repr(settings), str(settings), f"{settings}", str(settings.shown())):
        assert not any(part in text for part in (SECRET, OTHER, "hunter2"))
        assert "rabbit-a" in text
        assert "8001" in text
    assert set(settings.shown()) == set(SETTINGS)


def test_secrets_from_files(tmp_path: Path) -> None:
    """`…_FILE` and `--…-file` name a file that holds the value; a last line break is not part of it."""
    file = tmp_path / "secret"
    file.write_text(SECRET + "\r\n")
    assert load({}, {"TIDEGATE_JWT_SECRET_FILE": str(file)}).jwt_secret == {None: SECRET}
    assert load({"jwt_secret_file": str(file)}, {}).jwt_secret == {None: SECRET}
    file.write_text(f"a:{SECRET},b:{OTHER}\n")
    assert load({"jwt_secret_file": str(file)}, {}).jwt_secret == {"a": SECRET, "b": OTHER}
    file.write_text("memory:\n")
    assert load({}, {"TIDEGATE_LOG_FILE": str(file)}).log == MemoryAddress()


def test_bad_secret_files(tmp_path: Path) -> None:
    """A file that is not there, not readable as text, empty, or beside the plain value; and a value in it that is wrong."""
    missing, empty, binary, short = (tmp_path / name for name in ("missing", "empty", "binary", "short"))
    empty.write_text("\n")
    binary.write_bytes(b"\xff" * 40)
    short.write_text("hunter2")
    for path, why in ((missing, "No such file"), (empty, "empty"), (binary, "no text"), (tmp_path, "directory")):
        (line,) = problems({"TIDEGATE_JWT_SECRET_FILE": str(path)}, serving=True)
        assert line.startswith("TIDEGATE_JWT_SECRET_FILE: takes ")
        assert why in line
    (line,) = problems({"TIDEGATE_JWT_SECRET_FILE": str(short)}, serving=True)
    assert line.startswith("TIDEGATE_JWT_SECRET_FILE: takes at least 32 bytes")
    assert line.endswith("got 7 bytes")
    (line,) = problems({"TIDEGATE_JWT_SECRET_FILE": str(short), "TIDEGATE_JWT_SECRET": SECRET})
    assert line == "TIDEGATE_JWT_SECRET_FILE: takes the place of TIDEGATE_JWT_SECRET, got both"
    (line,) = problems({}, {"jwt_secret_file": str(missing)})
    assert line.startswith("--jwt-secret-file: takes ")


def test_public_keys(tmp_path: Path) -> None:
    """A PEM file of public keys; a private key, or anything else, is refused."""
    file = tmp_path / "key.pem"
    file.write_text(PEM)
    settings = load({}, {"TIDEGATE_JWT_PUBLIC_KEY_FILE": str(file)}, serving=True)
    assert settings.jwt_public_key_file == file
    assert settings.algorithms == {"RS256", "ES256", "EdDSA"}
    file.write_text(PEM.replace("PUBLIC", "PRIVATE"))
    assert "private key" in problems({"TIDEGATE_JWT_PUBLIC_KEY_FILE": str(file)})[0]
    file.write_text("hello")
    assert "no PEM block" in problems({"TIDEGATE_JWT_PUBLIC_KEY_FILE": str(file)})[0]


def test_flags_go_before_variables(tmp_path: Path) -> None:
    """A flag wins, whichever way it names its value; what is set to nothing is not set; None is not given."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    assert load({"port": "1"}, {"TIDEGATE_PORT": "2"}).port == 1
    assert load({"port": None}, {"TIDEGATE_PORT": "2"}).port == 2
    assert load({"port": ""}, {"TIDEGATE_PORT": "2"}).port == 2
    assert load({}, {"TIDEGATE_PORT": ""}).port == 8001
    assert load({"jwt_secret": OTHER}, {"TIDEGATE_JWT_SECRET_FILE": str(file)}).jwt_secret == {None: OTHER}
    assert load({"jwt_secret_file": str(file)}, {"TIDEGATE_JWT_SECRET": OTHER}).jwt_secret == {None: SECRET}


def test_limits_are_settings() -> None:
    """Each limit has its variable and its flag."""
    assert load({"text_chars": "10"}, {"TIDEGATE_COMMANDS_PER_SECOND": "0.5"}).limits == Limits(
        text_chars=10, commands_per_second=0.5
    )
    assert set(Limits.__struct_fields__) <= set(SETTINGS)


def test_a_node_that_serves_needs_a_key() -> None:
    """Without any key one line says which settings give one; the dev issuer needs the secret itself."""
    (line,) = problems({}, serving=True)
    assert line.startswith("TIDEGATE_JWT_SECRET: takes a key to verify tokens with")
    assert "TIDEGATE_JWKS_URL" in line
    (line,) = problems({"TIDEGATE_DEV_ISSUER": "1", "TIDEGATE_JWKS_URL": "https://keys"}, serving=True)
    assert "dev issuer" in line
    assert load({}, {"TIDEGATE_JWT_SECRET": SECRET}, serving=True).algorithms == {"HS256"}
    assert load({}, {"TIDEGATE_JWT_SECRET": SECRET, "TIDEGATE_JWT_ALGORITHMS": "HS512"}).algorithms == {"HS512"}


def test_one_value_of_a_command() -> None:
    """A command's own flag is refused in the same words."""
    assert require(port, "0", "--port") == 0
    with pytest.raises(ConfigurationError) as raised:
        require(port, "x", "--port")
    assert raised.value.problems == ["--port: takes a port from 0 to 65535, got 'x'"]


@given(st.dictionaries(st.sampled_from([setting.variable for setting in SETTINGS.values()]), st.text(max_size=40), max_size=4))
def test_any_environment_is_taken_or_told(environment: dict[str, str]) -> None:
    """Whatever the values, settings come out or problems do, a line each."""
    told: list[str] = []
    try:
        assert repr(load({}, environment))
    except ConfigurationError as error:
        told = error.problems
    assert all(line.isprintable() for line in told)
    assert len(told) <= len(environment)

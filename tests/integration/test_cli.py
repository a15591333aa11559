"""The command line: help, bad flags and variables in one line each, tokens."""

import contextlib
import json
import os
import socket
import stat
import time
from pathlib import Path

import jwt
import pytest

from node.cli import NAMES
from node.cli.dev_secret import make_dev_secret
from node.config import SETTINGS
from tests.support.commands import tidegate
from tests.support.tokens import SECRET


def test_help_lists_every_command(tmp_path: Path) -> None:
    """`tidegate --help` and `tidegate` alone list the commands."""
    for arguments in (["--help"], []):
        done = tidegate(*arguments, folder=tmp_path)
        assert done.returncode == 0
        assert all(f" {name} " in done.stdout for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, tmp_path: Path) -> None:
    """`--help` describes a command and does nothing else."""
    done = tidegate(name, "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: tidegate {name}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_node_has_a_flag_for_every_setting(tmp_path: Path) -> None:
    """Each setting of the table is a flag of `tidegate node`, and each secret one has a flag for a file."""
    shown = tidegate("node", "--help", folder=tmp_path).stdout
    for setting in SETTINGS.values():
        assert f"{setting.flag} " in shown
        assert (f"{setting.flag}-file " in shown) == setting.from_file


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Unknown flags, bad values, missing values, superfluous arguments and bad variables: one line each, exit 2."""
    done = tidegate(
        *("node", "--prot", "80", "--host", "a b", "--max-sessions", "0", "--jwt-secret", "short", "superfluous", "--node-id"),
        folder=tmp_path,
        ping_interval_seconds="never",
        jwt_isuer="me",
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert lines == [
        "--prot: is not a flag of `tidegate node`; did you mean --port, which takes a port from 0 to 65535?",
        "--node-id: takes 1 to 32 of a-z, 0-9 and -, got nothing",
        "`tidegate node`: takes no arguments besides its flags, got 1 argument",
        "TIDEGATE_JWT_ISUER: is not a setting; did you mean TIDEGATE_JWT_ISSUER?",
        "--host: takes a host name or an IP address, got 'a b'",
        "--jwt-secret: takes at least 32 bytes, or kid:secret,kid:secret of at least 32 bytes each, got 5 bytes",
        "--max-sessions: takes a whole number from 1 to 10000000, got '0'",
        "TIDEGATE_PING_INTERVAL_SECONDS: takes seconds, a number from 0.1 to 3600, got 'never'",
    ]


def test_a_flag_takes_its_value_after_an_equals_sign_too(tmp_path: Path) -> None:
    """`--flag=value` is `--flag value`, and the last of several counts."""
    done = tidegate("up", "--nodes=3", "--nodes=17", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "--nodes: takes a whole number from 1 to 16, got '17'\n")


def test_an_unknown_command_is_told_with_its_neighbour(tmp_path: Path) -> None:
    """A mistyped command is answered with those that there are."""
    done = tidegate("tokn", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("tokn: is not a command of `tidegate`")
    assert done.stderr.endswith("did you mean token?\n")


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    """Neither a bad secret, nor one after a mistyped flag, nor the password of a broker is repeated."""
    done = tidegate("node", "--jwt-secrt", "hunter2hunter2", "--log", "amqp://u:hunter3@", folder=tmp_path, jwt_secret="hunter4")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert "hunter" not in done.stdout + done.stderr


def test_a_node_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    """A taken port is one line with the port in it and exit 1, not a traceback."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = tidegate("node", "--port", port, "--log", "memory:", "--jwt-secret", SECRET, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"node n1 cannot run: port {port} on 127.0.0.1 cannot be had: Address already in use"]


def test_a_node_whose_log_is_none_says_so(tmp_path: Path) -> None:
    """A file that is no log is one line and exit 1."""
    log = tmp_path / "not-a-log"
    log.write_text("something else, and long enough to be looked at: " * 20)
    done = tidegate("node", "--port", "0", "--log", f"sqlite:///{log}", "--jwt-secret", SECRET, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"node n1 cannot run: {log} is not a log: file is not a database"]


def test_a_token_is_signed_with_the_configured_key(tmp_path: Path) -> None:
    """Only the token is on stdout; it has the user, its times, an id, the configured issuer and audience, and what was asked for."""
    began = int(time.time())
    done = tidegate(
        *("token", "alice", "--ttl", "90", "--scope", "chat admin", "--claim", "team=red", "--claim", "level=3"),
        folder=tmp_path,
        jwt_secret=SECRET,
        jwt_issuer="me",
        jwt_audience="us",
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], audience="us", issuer="me")
    assert (claims["sub"], claims["scope"], claims["team"], claims["level"]) == ("alice", "chat admin", "red", 3)
    assert began <= claims["iat"] <= time.time()
    assert claims["exp"] == claims["iat"] + 90
    assert claims["jti"]


def test_a_token_names_the_key_it_is_signed_with(tmp_path: Path) -> None:
    """With several keys the first signs, and the token says its kid; a configured HMAC algorithm is used."""
    secret = SECRET * 2
    done = tidegate("token", "alice", folder=tmp_path, jwt_secret=f"new:{secret},old:{SECRET}", jwt_algorithms="HS512")
    header = jwt.get_unverified_header(done.stdout.strip())
    assert (header["kid"], header["alg"]) == ("new", "HS512")
    assert "scope" not in jwt.decode(done.stdout.strip(), secret, algorithms=["HS512"])


def test_tokens_that_cannot_be_signed_are_refused(tmp_path: Path) -> None:
    """No user, no key, a bad claim and a bad lifetime are each told."""
    done = tidegate("token", "--ttl", "0", "--claim", "nothing", folder=tmp_path)
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["USER", "--ttl", "--claim"]
    without_key = tidegate("token", "alice", folder=tmp_path)
    assert (without_key.returncode, without_key.stdout) == (2, "")
    assert without_key.stderr.startswith("TIDEGATE_JWT_SECRET: takes at least 32 bytes to sign with, got nothing")


def test_without_a_configured_key_the_local_clusters_signs(tmp_path: Path) -> None:
    """`tidegate token` takes the secret that `tidegate up` has made in the data folder."""
    data = tmp_path / "tidegate-data"
    data.mkdir()
    (data / "dev-secret").write_text(SECRET + "\n")
    for arguments in ([], ["--data", data]):
        done = tidegate("token", "alice", *arguments, folder=tmp_path)
        assert jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])["sub"] == "alice"


def test_the_doctor_fails_on_a_bad_configuration(tmp_path: Path) -> None:
    """Each bad variable is a line of its own."""
    done = tidegate("doctor", folder=tmp_path, port="x", host="a b")
    assert done.returncode == 1
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["FAIL", "configuration", "TIDEGATE_HOST:"],
        ["FAIL", "configuration", "TIDEGATE_PORT:"],
    ]


def test_the_doctor_names_what_is_missing_and_makes_nothing(tmp_path: Path) -> None:
    """In an empty folder there is no key, which fails and says what to do, and no log yet, which does not fail; nothing is created."""
    done = tidegate("doctor", "--port", "0", folder=tmp_path)
    levels = {tuple(line.split()[:2]) for line in done.stdout.splitlines()}
    assert done.returncode == 1
    assert {("FAIL", "keys"), ("warn", "log"), ("ok", "data"), ("ok", "port")} <= levels
    (keys,) = (line for line in done.stdout.splitlines() if line.startswith("FAIL"))
    assert "`tidegate up` makes its own in tidegate-data/dev-secret" in keys
    assert "set one of TIDEGATE_JWT_SECRET, TIDEGATE_JWT_PUBLIC_KEY_FILE, TIDEGATE_JWKS_URL, TIDEGATE_OIDC_ISSUER" in keys
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_sees_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """A log that was changed in the future can only mean that the clock is behind."""
    log = tmp_path / "log.db"
    log.touch()
    ahead = time.time() + 3_600
    os.utime(log, (ahead, ahead))
    done = tidegate("doctor", "--log", f"sqlite:///{log}", folder=tmp_path)
    assert any(line.startswith("FAIL clock") for line in done.stdout.splitlines())


def test_secrets_of_the_local_cluster_are_for_its_owner_alone(tmp_path: Path) -> None:
    """The secret is made once, readable by nobody else, and is used again."""
    file = make_dev_secret(tmp_path / "data")
    first = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first.strip()) >= 32
    file.chmod(0o644)
    assert make_dev_secret(tmp_path / "data").read_text() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_claims_may_be_json(tmp_path: Path) -> None:
    """A claim's value is JSON where it parses, and text where it does not."""
    done = tidegate("token", "alice", "--claim", 'roles=["a","b"]', "--claim", "note=a=b", folder=tmp_path, jwt_secret=SECRET)
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert json.dumps([claims["roles"], claims["note"]]) == '[["a", "b"], "a=b"]'


def test_a_claim_does_not_override_an_argument(tmp_path: Path) -> None:
    """Whose token it is, and until when, is said in one place: a claim that says otherwise is refused; `scope` may be either."""
    claims = ("--claim", "sub=eve", "--claim", "exp=9", "--claim", "iat=9")
    done = tidegate("token", "ann", *claims, folder=tmp_path, jwt_secret=SECRET)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "--claim: takes k=v, got sub, which USER says",
        "--claim: takes k=v, got exp, which --ttl says",
        "--claim: takes k=v, got iat, which the clock says",
    ]
    twice = tidegate("token", "ann", "--scope", "chat", "--claim", "scope=admin", folder=tmp_path, jwt_secret=SECRET)
    assert (twice.returncode, twice.stdout, twice.stderr) == (2, "", "--claim: takes k=v, got scope, which --scope says\n")
    once = tidegate("token", "ann", "--claim", "scope=chat admin", "--claim", "jti=j", folder=tmp_path, jwt_secret=SECRET)
    found = jwt.decode(once.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (found["sub"], found["scope"], found["jti"]) == ("ann", "chat admin", "j")


def test_settings_that_exclude_each_other(tmp_path: Path) -> None:
    """Where the HTTP request is judged, a token in CONNECT alone could never be found: said before anything starts."""
    flags = ("--handshake", "global", "--token-sources", "auth")
    done = tidegate("node", *flags, folder=tmp_path, jwt_secret="s" * 32)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("TIDEGATE_TOKEN_SOURCES: takes header, query or a cookie")
    assert not list(tmp_path.iterdir())

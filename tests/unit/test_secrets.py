"""The search for secrets in what nodes write finds what it is to find: it runs at the end of every test with a node."""

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.issuer import KeyPair
from tests.support.nodes import NodeProcess
from tests.support.secrets import SECRETS, Secrets
from tests.support.tokens import SECRET, token


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


PLACES = [
    "{}",
    "GET /socket.io/?EIO=4&token={}&transport=polling",
    '{{"event": "refused", "authorization": "Bearer {}"}}',
    "Traceback\n  File x\nValueError: {!r} is no good",
    "cookie: a=b; session={}; c=d",
    'tidegate_handshakes_total{{token="{}"}} 1.0',
]


@pytest.mark.parametrize("place", PLACES)
def test_a_token_is_found(secrets: Secrets, place: str) -> None:
    """Wherever it stands, whole, quoted for a URL, cut, or its signature alone; and what is found does not repeat it."""
    secret = secrets.token(token("ann"))
    signature = secret.rpartition(".")[2]
    for written in (secret, quote(secret, safe=""), secret[:-10], signature):
        (finding,) = secrets.found_in(f"a line before\n{place.format(written)}\na line behind")
        assert finding.startswith("a token behind")
        assert signature[:16] not in finding


def test_a_key_is_found(secrets: Secrets) -> None:
    """A shared secret, and each way of writing a private key; not the public one."""
    secrets.key(SECRET)
    assert len(secrets.found_in(f"TIDEGATE_JWT_SECRET=kid:{SECRET},other:...")) == 1
    for algorithm in ("RS256", "ES256", "EdDSA"):
        pair = KeyPair("k", algorithm)
        assert SECRETS.found_in(pair.private_pem)
        assert SECRETS.found_in(repr(pair.jwk(private=True)))
        assert SECRETS.found_in(pair.pem) == SECRETS.found_in(repr(pair.jwk())) == []


def test_what_is_no_secret_is_not_found(secrets: Secrets) -> None:
    """Other tokens, the claims of a token without its signature, and one that is not signed."""
    known = secrets.token(token("ann"))
    secrets.token(known.rpartition(".")[0] + ".")
    assert secrets.found_in(token("bob")) == []
    assert secrets.found_in(known.rpartition(".")[0]) == []
    assert secrets.found_in(known.replace(known.rpartition(".")[2], "[token]")) == []


@pytest.mark.parametrize("kind", ["out", "err"])
def test_a_node_that_writes_one_is_at_fault(tmp_path: Path, kind: str) -> None:
    """Whichever of its processes wrote it: this is what fails the tests with a node."""
    node = NodeProcess("n1", tmp_path, {})
    node.expect_end()
    (tmp_path / f"n1.1.{kind}").write_text("started\n")
    assert node.faults() == []
    (tmp_path / f"n1.2.{kind}").write_text(f'{{"event": "refused", "url": "/?token={token("ann")}"}}\n')
    (fault,) = node.faults()
    assert fault.startswith("n1 has written a token behind '")
    assert fault.endswith(f"to std{kind}")

"""Certificates for tests of TLS on loopback: an authority, a server and a client, as PEM files."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

_LIFE = timedelta(days=1)


class Pair:
    """A certificate and its private key, each in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"


class Certificates:
    """An authority whose certificate is in the file `authority`, and what it has signed: `server` for 127.0.0.1, localhost and ::1, and
    `client`. Those of another folder are strangers to these.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = folder / "authority.pem"
        self.server, self.client = Pair(folder, "server"), Pair(folder, "client")
        self._name = _name("tests' authority")
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.authority.write_bytes(self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0)))
        hosts = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(host)) for host in ("127.0.0.1", "::1"))]
        self._issue(self.server, x509.SubjectAlternativeName(hosts))
        self._issue(self.client, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))

    def _issue(self, pair: Pair, extension: x509.ExtensionType) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        pair.certificate.write_bytes(self._sign(_name(pair.key.stem), key, extension))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        """A certificate for this key, as PEM."""
        now = datetime.now(UTC)
        serial = x509.random_serial_number()
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), serial, now - _LIFE, now + _LIFE)
        return builder.add_extension(extension, critical=True).sign(self._key, SHA256()).public_bytes(Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

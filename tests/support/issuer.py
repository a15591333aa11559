"""An issuer for tests: key pairs with the tokens they sign, and a key set server on loopback that does as it is told, good or bad."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.support.secrets import SECRETS

_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


class KeyPair:
    """A private key that signs tokens with one algorithm."""

    def __init__(self, kid: str | None, algorithm: str = "RS256", *, bits: int = 2_048) -> None:
        self.kid, self.algorithm = kid, algorithm
        self.private: Any
        if algorithm in _CURVES:
            self.private = ec.generate_private_key(_CURVES[algorithm])
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
        SECRETS.key(self.jwk(private=True)["d"])
        lines = self.private_pem.splitlines()[1:-1]
        SECRETS.key(lines[len(lines) // 2 if isinstance(self.private, rsa.RSAPrivateKey) else 0])  # not what is public of it

    @property
    def pem(self) -> str:
        """The public key."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def private_pem(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def jwk(self, *, private: bool = False, **members: Any) -> dict[str, Any]:
        """The key as a member of a set; `members` are added, or left out where they are None."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        found = json.loads(algorithm.to_jwk(self.private if private else self.private.public_key()))
        found |= {"kid": self.kid, "key_ops": None} | members
        return {name: value for name, value in found.items() if value is not None}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token of exactly these claims; `header` is added, or left out where it is None."""
        merged = {"kid": self.kid} | header
        headers = {name: value for name, value in merged.items() if value is not None}
        return SECRETS.token(jwt.encode(claims, self.private, algorithm=self.algorithm, headers=headers))

    def token(self, user: str, *, ttl: float = 600.0, **claims: Any) -> str:
        """A token of `user` that lives `ttl` seconds from now."""
        now = time.time()
        return self.sign({"sub": user, "iat": now, "exp": now + ttl} | claims)


Answer = Callable[["IssuerServer", str], Awaitable[bytes] | bytes]


def answer(body: Any, *, status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    """An HTTP answer; `body` is text or bytes as they are, anything else as JSON. An underscore in a header's name is a dash."""
    content = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    merged = {"Content-Type": kind, "Content-Length": str(len(content)), "Connection": "close"} | headers
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in merged.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


class IssuerServer:
    """Serves `keys` at `/jwks` and a discovery document for it, or whatever `answers` has for a path.

    `requests` has the paths asked for, in order. While `stalled` is set it takes requests and answers nothing.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.keys: list[Any] = []
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.headers: list[str] = []
        self.stalled = False
        self.url = ""
        self._port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/jwks"

    def fetches(self) -> int:
        """How often the key set was asked for."""
        return self.requests.count("/jwks")

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Listen no more, and cut who is connected. Idempotent."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1]
            self.requests.append(path)
            self.headers.append(head)
            length = re.search(r"(?i)\r\ncontent-length: (\d+)", head)
            if length is not None:  # what is not read when the connection is closed would reset it, under the answer
                await reader.readexactly(int(length[1]))
            while self.stalled:  # until the client gives up, or we may answer again
                if await _gone(reader):
                    break
            found = self.answers.get(path, _usual)(self, path)
            writer.write(found if isinstance(found, bytes) else await found)
            await writer.drain()
        self._open.discard(writer)
        writer.close()


async def _gone(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.01):
            return await reader.read(1) == b""
    except TimeoutError:
        return False


def _usual(server: IssuerServer, path: str) -> bytes:
    match path:
        case "/jwks":
            return answer({"keys": server.keys})
        case "/.well-known/openid-configuration":
            return answer({"issuer": server.url, "jwks_uri": server.jwks_url})
        case _:
            return answer("not here", status="404 Not Found", kind="text/plain")


@asynccontextmanager
async def issuer_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[IssuerServer]:
    """A running issuer."""
    server = IssuerServer(tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

"""Answers of the HTTP face in tests: their common shape, and raw bytes where no client library would send them."""

import re
import socket
import ssl
from typing import Any

import httpx

PATIENCE_S = 5.0
# A client of httpx reads the machine's certificates, for 50 ms of CPU, whether it ever speaks TLS or not; ours does not.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def async_http(**options: Any) -> httpx.AsyncClient:
    """An `httpx.AsyncClient` with these options, for plain HTTP."""
    return httpx.AsyncClient(verify=_NO_AUTHORITIES, trust_env=False, **options)


def sync_http(**options: Any) -> httpx.Client:
    """An `httpx.Client` with these options, for plain HTTP."""
    return httpx.Client(verify=_NO_AUTHORITIES, trust_env=False, **options)


def fetch(url: str, **options: Any) -> httpx.Response:
    """`httpx.get` for plain HTTP, over a connection of its own."""
    return httpx.get(url, verify=_NO_AUTHORITIES, trust_env=False, **options)


def post(url: str, **options: Any) -> httpx.Response:
    """`httpx.post` for plain HTTP, over a connection of its own."""
    return httpx.post(url, verify=_NO_AUTHORITIES, trust_env=False, **options)


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def failure(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a refused request, once its status, code, shape and headers are as PROTOCOL section 3 says."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"} and {"code", "message"} <= set(body["error"]) <= {"code", "message", "field", "retry_after"}
    error: dict[str, Any] = body["error"]
    assert error["code"] == code
    assert isinstance(error["message"], str) and error["message"]
    if status == 401:
        assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
    return error


def exchange(address: tuple[str, int], request: bytes, *, end: bool = False) -> bytes:
    """Send bytes and read what comes until the server closes or falls silent for a second; `end` closes our half first."""
    with socket.create_connection(address, timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        connection.settimeout(1.0)
        try:
            while chunk := connection.recv(65_536):
                found += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def metric(url: str, name: str, labels: str = "") -> float:
    """The sum of a metric's samples whose labels contain `labels`."""
    text = fetch(f"{url}/metrics").text
    found = re.findall(rf"^{name}(?:{{([^}}]*)}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for given, value in found if labels in given)

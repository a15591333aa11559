"""HTTP on this node: health, metrics, the API, the dev issuer and the pages (PROTOCOL section 3).

Tokens come in `Authorization: Bearer` and nowhere else: a cookie would make every other site a caller.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from node.auth.denied import DenialCode, Denied
from node.auth.sources import find_token
from node.core.commands import Command, History, Query, SendMessage, UserName
from node.core.effects import Applied
from node.core.errors import Code, Refused
from node.core.identity import Principal
from node.edge import wire
from node.edge.http_headers import AnswerHeaders
from node.edge.pages import Pages, not_found

Expose = Callable[[str], tuple[bytes, str]]
"""From an Accept header to the metrics and their content type."""


class HttpFace(msgspec.Struct, frozen=True, kw_only=True):
    """What the HTTP face needs of its node; filled by the composition root."""

    node: str
    version: str
    peers: tuple[str, ...]  # public URLs of all nodes
    payload_bytes: int  # of a request's body, at most
    ready: Callable[[], str | None]  # why the API answers nobody now (the gateway's own reason); None while it does
    not_ready: Callable[[], dict[str, str]]  # for /readyz: what is not ready, with words; empty when all is
    origin_allowed: Callable[[str, str, str], bool]  # (origin, host, scheme)
    judge: Callable[[str, str], Awaitable[Principal | Denied]]  # (token, scope)
    take_quota: Callable[[str], int]  # (user): 0, or the ms after which to try again
    submit: Callable[[Command, Principal], Awaitable[Applied | Refused]]
    answer: Callable[[Query, Principal], Awaitable[dict[str, Any] | Refused]]
    revoke: Callable[[dict[str, Any], Principal], Awaitable[dict[str, Any] | Refused]]  # the command of `/admin`
    cluster: Callable[[], dict[str, Any]]
    expose: Expose | None  # None: they are on a port of their own
    traced: Callable[
        [str, str | None], AbstractContextManager[str]
    ]  # around a command, by its name and its caller's `traceparent`
    answered: Callable[
        [str, str, str, float, str], None
    ]  # (user, command, outcome, seconds, trace): for the metrics and the journal
    dev_issuer: Callable[[str, float, str | None], tuple[str, int]] | None = None  # (user, ttl_s, scope): token, expires_at


def http_app(face: HttpFace) -> Starlette:
    """The ASGI app of everything in PROTOCOL section 3 but `/socket.io/`."""
    api, pages = _Api(face), Pages(face.peers)
    resources: dict[str, dict[str, Handler]] = {
        "/": {"GET": pages.chat},
        "/ops": {"GET": pages.ops},
        "/tidegate.js": {"GET": pages.client},
        "/web/{path:path}": {"GET": pages.file},
        "/config.json": {"GET": api.config},
        "/healthz": {"GET": api.healthz},
        "/readyz": {"GET": api.readyz},
        "/api/rooms/{room}/messages": {"GET": api.history, "POST": api.post_message},
        "/api/revoke": {"POST": api.revoke},
        "/api/cluster": {"GET": api.cluster},
    }
    if face.expose is not None:
        resources["/metrics"] = {"GET": _metrics(face.expose)}
    if face.dev_issuer is not None:
        resources["/dev/token"] = {"POST": api.dev_token}
    app = Starlette(
        routes=[Route(path, _Resource(handlers)) for path, handlers in resources.items()],
        middleware=[Middleware(AnswerHeaders, origin_allowed=face.origin_allowed)],
        exception_handlers={404: _missing, Exception: _fault},
    )
    app.router.redirect_slashes = False  # an API's caller wants the answer, not another address
    return app


def metrics_app(expose: Expose) -> Starlette:
    """The ASGI app of a port that has the metrics and nothing else."""
    app = Starlette(routes=[Route("/metrics", _Resource({"GET": _metrics(expose)}))], exception_handlers={404: _missing})
    app.router.redirect_slashes = False
    return app


Handler = Callable[[Request], Awaitable[Response]]


def _metrics(expose: Expose) -> Handler:
    async def answer(request: Request) -> Response:
        body, content_type = expose(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return answer


class _Resource:
    """One path: a handler for each method, HEAD with GET, 405 for the others."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers | ({"HEAD": handlers["GET"]} if "GET" in handlers else {})
        self._allow = ", ".join(sorted((*self._handlers, "OPTIONS")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        handler = self._handlers.get(request.method)
        if scope["path"].endswith("\n"):  # a pattern's end matches before it too
            response = not_found()
        elif handler is not None:
            response = await handler(request)
        elif request.method == "OPTIONS":
            response = Response(status_code=204, headers={"Allow": self._allow})
        else:
            error = {"code": "method_not_allowed", "message": f"this path takes {self._allow}"}
            response = _json({"error": error}, 405, Allow=self._allow)
        await response(scope, receive, send)


class _DevToken(msgspec.Struct, frozen=True, kw_only=True):
    user: UserName
    ttl: Annotated[float, msgspec.Meta(ge=1, le=86_400)] | None = None
    scope: Annotated[str, msgspec.Meta(max_length=1_000)] | None = None


#: What the node itself would refuse of a token that it has just made, and the field that is the reason.
_UNFIT: dict[DenialCode, str] = {"token_malformed": "user", "token_too_large": "scope", "token_ttl_too_long": "ttl"}


_CarryOut = Callable[[dict[str, Any], Principal], Awaitable[dict[str, Any] | Refused]]


class _Unread(Refused, frozen=True):
    """A body was refused before its end: what is left of it has to go with the connection."""


class _Api:
    """The handlers. Each judges the token first, then takes from the quota, and only then reads the body."""

    BODY_S = 10.0  # what a body of the largest size may take on a slow line
    DEV_TTL_S = 300.0

    def __init__(self, face: HttpFace) -> None:
        self._face = face

    async def config(self, _: Request) -> Response:
        """What the page needs to know before it has a token."""
        face = self._face
        return _json({"node": face.node, "version": face.version, "peers": face.peers, "dev_issuer": face.dev_issuer is not None})

    async def healthz(self, _: Request) -> Response:
        return _json({"ok": True})

    async def readyz(self, _: Request) -> Response:
        not_ready = self._face.not_ready()
        if not not_ready:
            return _json({"ready": True})
        return _json({"ready": False, "not_ready": not_ready}, 503, **{"Retry-After": "1"})

    async def dev_token(self, request: Request) -> Response:
        issue = self._face.dev_issuer
        assert issue is not None  # or there is no such route
        body = await self._body(request)
        if isinstance(body, Refused):
            return refused(body)
        asked = wire.decode_arguments("token", [body], {"token": _DevToken})
        if isinstance(asked, Refused):
            return refused(asked)
        token, expires_at = issue(asked.user, self.DEV_TTL_S if asked.ttl is None else asked.ttl, asked.scope)
        denial = await self._face.judge(token, "chat")
        if isinstance(denial, Denied) and denial.code in _UNFIT:
            return refused(Refused("bad_request", f"no good token can be made of this: {denial.message}", _UNFIT[denial.code]))
        return _json({"token": token, "expires_at": expires_at})

    async def post_message(self, request: Request) -> Response:
        async def post(body: dict[str, Any], principal: Principal) -> dict[str, Any] | Refused:
            command = wire.decode_command("message:send", [{**body, "room": request.path_params["room"]}])
            if isinstance(command, Refused):
                return command
            assert isinstance(command, SendMessage)
            outcome = await self._face.submit(command, principal)
            if isinstance(outcome, Refused):
                return outcome
            return {name: value for name, value in wire.applied(command, outcome).items() if name != "ok"}

        return await self._command(request, "message:send", "publish", post)

    async def history(self, request: Request) -> Response:
        async def read(_: dict[str, Any], principal: Principal) -> dict[str, Any] | Refused:
            numbers = _numbers(request, "before", "after", "limit")
            if isinstance(numbers, Refused):
                return numbers
            query = wire.decode_command("history", [{**numbers, "room": request.path_params["room"]}])
            if isinstance(query, Refused):
                return query
            assert isinstance(query, History)
            return await self._face.answer(query, principal)

        return await self._command(request, "history", "chat", read)

    async def revoke(self, request: Request) -> Response:
        async def withdraw(body: dict[str, Any], principal: Principal) -> dict[str, Any] | Refused:
            outcome = await self._face.revoke(body, principal)
            return outcome if isinstance(outcome, Refused) else {"ok": True, **outcome}

        return await self._command(request, "revoke", "admin", withdraw)

    async def cluster(self, request: Request) -> Response:
        principal = await self._caller(request, "admin")
        if isinstance(principal, Response):
            return principal
        over = self._over_quota(principal)
        return _json(self._face.cluster()) if over is None else refused(over)

    async def _command(self, request: Request, name: str, scope: str, carry_out: _CarryOut) -> Response:
        """Carry out what is a command over a socket too; it is counted like one there, once its caller is known. A GET has no body."""
        principal = await self._caller(request, scope)
        if isinstance(principal, Response):
            return principal
        asked: dict[str, Any] | Refused | None = self._over_quota(principal)
        if asked is None:
            asked = await self._body(request) if request.method == "POST" else {}
        began_s = time.perf_counter()
        with self._face.traced(name, request.headers.get("traceparent")) as trace:
            answer = asked if isinstance(asked, Refused) else await carry_out(asked, principal)
            outcome = answer.code if isinstance(answer, Refused) else "ok"
            self._face.answered(principal.user, name, outcome, time.perf_counter() - began_s, trace)
        return refused(answer) if isinstance(answer, Refused) else _json(answer)

    async def _caller(self, request: Request, scope: str) -> Principal | Response:
        """Who asks, once the token may do what `scope` allows; or the answer to give."""
        reason = self._face.ready()
        if reason is not None:
            return refused(Refused("unavailable", f"not serving now: {reason}"))
        headers = request.headers.getlist("authorization")
        if len(headers) > 1:
            return denied(Denied("credentials_conflict", "more than one Authorization header"))
        found = find_token(None, {"HTTP_AUTHORIZATION": headers[0]} if headers else {}, ("header",))
        principal = found if isinstance(found, Denied) else await self._face.judge(found[0], scope)
        return denied(principal) if isinstance(principal, Denied) else principal

    def _over_quota(self, principal: Principal) -> Refused | None:
        wait_ms = self._face.take_quota(principal.user)
        return Refused("rate_limited", "too many commands", retry_after=wait_ms) if wait_ms else None

    async def _body(self, request: Request) -> dict[str, Any] | Refused:
        """The request's JSON object."""
        most = self._face.payload_bytes
        try:
            async with asyncio.timeout(self.BODY_S):
                content = await _read(request, most)
        except (TimeoutError, ClientDisconnect):
            return _Unread("bad_request", "the body did not arrive")
        if content is None:
            return _Unread("too_large", f"a body takes at most {most} bytes")
        try:
            value = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return Refused("bad_request", "the body is not JSON")
        return value if isinstance(value, dict) else Refused("bad_request", "the body is not a JSON object")


async def _read(request: Request, most: int) -> bytes | None:
    """The body; None when it is longer than `most` bytes, whatever its length says."""
    length = request.headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,15}", length) or int(length) > most:
        return None
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            return None
    return bytes(content)


def _numbers(request: Request, *names: str) -> dict[str, int] | Refused:
    """The named query parameters that are given."""
    found = {}
    for name in names:
        values = request.query_params.getlist(name)
        if len(values) > 1 or (values and not re.fullmatch("[0-9]{1,16}", values[0])):
            return Refused("bad_request", f"{name} takes one whole number", name)
        if values:
            found[name] = int(values[0])
    return found


_STATUS: dict[Code, int] = {
    "bad_request": 400,
    "token_expired": 401,
    "forbidden": 403,
    "not_a_member": 403,
    "room_not_found": 404,
    "message_not_found": 404,
    "room_exists": 409,
    "too_large": 413,
    "rate_limited": 429,
    "unavailable": 503,
}


def refused(refusal: Refused) -> Response:
    """A refused command as an answer; `Retry-After` where waiting helps."""
    status = _STATUS[refusal.code]
    headers = {"Connection": "close"} if isinstance(refusal, _Unread) else {}
    if status in (429, 503):
        headers |= _retry_after(refusal.retry_after)
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    return _json({"error": refusal}, status, **headers)


def denied(denial: Denied) -> Response:
    """A refused credential as an answer (RFC 6750)."""
    error = {"error": {"code": denial.code, "message": denial.message}}
    if denial.code in ("keys_unavailable", "server_busy", "draining"):
        return _json(error, 503, **_retry_after(denial.retry_after))
    if denial.code == "scope_missing":
        return _json(error, 403, **{"WWW-Authenticate": 'Bearer error="insufficient_scope"'})
    return _json(error, 401, **{"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _retry_after(wait_ms: int | None) -> dict[str, str]:
    return {"Retry-After": str(max(1, -(-(wait_ms or 1_000) // 1_000)))}


def _json(value: Any, status: int = 200, **headers: str) -> Response:
    return Response(msgspec.json.encode(value), status, headers=headers, media_type="application/json")


async def _missing(_: Request, _error: Exception) -> Response:
    return not_found()


async def _fault(_: Request, _error: Exception) -> Response:
    """A fault of ours: the caller learns that much, and the error goes on to the server's log."""
    return _json({"error": {"code": "internal_error", "message": "this node failed to answer"}}, 500)

"""Headers of every HTTP answer: what a browser may do with it, and which other origins may read it."""

from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_SHARED = ("/config.json", "/dev/token")  # and everything under /api/: what a page of another node or site may call
_CORS = {
    "Access-Control-Expose-Headers": "Retry-After, WWW-Authenticate",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


class AnswerHeaders:
    """Adds the headers that an answer does not set itself.

    Other origins are let in without credentials: a token travels in `Authorization`, which a page must put there knowingly.
    """

    def __init__(self, app: ASGIApp, *, origin_allowed: Callable[[str, str, str], bool]) -> None:
        self._app, self._origin_allowed = app, origin_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        extra = self._extra(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in extra.items():
                    headers.setdefault(name, value)
            await send(message)

        return await self._app(scope, receive, send_with_headers)

    def _extra(self, scope: Scope) -> dict[str, str]:
        if scope["path"] not in _SHARED and not scope["path"].startswith("/api/"):
            return _ALWAYS
        extra = _ALWAYS | {"Vary": "Origin"}
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and self._origin_allowed(origin, headers.get("host", ""), scope["scheme"]):
            extra |= _CORS | {"Access-Control-Allow-Origin": origin}
        return extra

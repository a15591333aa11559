"""The pages and their files as HTTP answers: types, validators, and the content security policy.

A file is served when its name is plain (no dot in front, no way out of the folder) and its type is in the table. What a browser
has it asks for again by its ETag, so a changed file is never stale.
"""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

WEB = Path(__file__).parent / "web"
LIBRARIES = "vendor"  # the folder of what comes from npm; copied in by the build, never committed

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
}
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_MOST_SEGMENTS = 6
_NO_LIBRARIES = "The page's libraries are not here: with Node.js 18 or later and npm installed, say `make page`, then reload.\n"


class _File(msgspec.Struct, frozen=True, kw_only=True):
    stamp: tuple[int, int]  # of the file on disk: when and how large
    content: bytes
    etag: str


class Pages:
    """The files of one folder, kept in memory until they change on disk."""

    def __init__(self, peers: tuple[str, ...], root: Path = WEB) -> None:
        self._root = root.resolve()
        self._policy = page_policy(peers)
        self._files: dict[Path, _File] = {}

    async def chat(self, request: Request) -> Response:
        """`/`: the chat page, or one line that says how to get it."""
        return self._page(request, "index.html")

    async def ops(self, request: Request) -> Response:
        """`/ops`: the operator's page, or the same line."""
        return self._page(request, "ops.html")

    async def client(self, request: Request) -> Response:
        """`/tidegate.js`."""
        return self._answer(request, "tidegate.js")

    async def file(self, request: Request) -> Response:
        """`/web/{path}`."""
        return self._answer(request, request.path_params["path"])

    def _page(self, request: Request, name: str) -> Response:
        if not any((self._root / LIBRARIES).glob("**/*.js")):
            return PlainTextResponse(_NO_LIBRARIES, 503)
        return self._answer(request, name)

    def _answer(self, request: Request, name: str) -> Response:
        file = self._find(name)
        if file is None:
            return not_found()
        suffix = Path(name).suffix
        headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Content-Type": _TYPES[suffix]}
        if suffix == ".html":
            headers |= {"Content-Security-Policy": self._policy, "Cross-Origin-Opener-Policy": "same-origin"}
        else:  # code and pictures hold nothing private: other people's pages may import them
            headers |= {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
        if _matches(request.headers.get("if-none-match"), file.etag):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers)

    def _find(self, name: str) -> _File | None:
        segments = name.split("/")
        if len(segments) > _MOST_SEGMENTS or not all(_SEGMENT.match(one) for one in segments):
            return None
        path = self._root.joinpath(*segments)
        if path.suffix not in _TYPES:
            return None
        try:
            if not path.is_file() or not path.resolve().is_relative_to(self._root):
                return None
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                content = path.read_bytes()
                etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                known = self._files[path] = _File(stamp=stamp, content=content, etag=etag)
        except OSError:
            self._files.pop(path, None)
            return None
        return known


def page_policy(peers: tuple[str, ...]) -> str:
    """The content security policy of a page that may talk to this node and its peers, and to nobody else."""
    origins = [urlsplit(peer) for peer in peers]
    others = [f"{scheme}://{url.netloc}" for url in origins for scheme in (url.scheme, url.scheme.replace("http", "ws"))]
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            " ".join(("connect-src 'self'", *others)),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def not_found() -> Response:
    """The API's 404."""
    body = msgspec.json.encode({"error": {"code": "not_found", "message": "there is nothing at this path"}})
    return Response(body, 404, media_type="application/json")


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in header.split(","))

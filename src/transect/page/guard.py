"""Who may ask: only a page of this server, with its token, under this machine's own name.

An ASGI layer around the app. The token keeps out other users and programs of the machine; the Host check
keeps out pages that point their own name at 127.0.0.1; the Origin check keeps out other sites in the same
browser. A browser that comes with the token, or with a code that counts once, gets a cookie and is sent on to
an address without either.
"""

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse, Response

#: The one style sheet that Observable Plot writes into its SVG (its class name is fixed by the page).
PLOT_STYLE = (
    ":where(.tx-plot) {\n  --plot-background: white;\n  display: block;\n  height: auto;\n"
    "  height: intrinsic;\n  max-width: 100%;\n}\n:where(.tx-plot text),\n:where(.tx-plot tspan) {\n"
    "  white-space: pre;\n}"
)
STYLE_HASH = base64.b64encode(hashlib.sha256(PLOT_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' 'sha256-{STYLE_HASH}'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Guard:
    """Refuses what does not come from the page; puts the headers above on every answer."""

    def __init__(self, app: Any, token: str, hosts: set[str]) -> None:
        self.app, self.token, self.hosts = app, token, hosts
        self._session, self._codes = secrets.token_urlsafe(24), set[str]()

    def code(self) -> str:
        """A code that opens the page once: it may stand where others can read it a moment later."""
        self._codes.add(token := secrets.token_urlsafe(24))
        return token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refused = self.refusal(scope) or self.exchange(scope)

        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [h for h in message["headers"] if h[0].decode() not in HEADERS] + named
            await send(message)

        await (refused or self.app)(scope, receive, marked)

    def refusal(self, scope: Scope) -> Response | None:
        """Why not, or None. Scripts and styles hold no data and need no token."""
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        host = headers.get("host", "")
        if host not in self.hosts:
            return PlainTextResponse("this server answers to 127.0.0.1 and localhost only", 421)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("another site asked", 403)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return PlainTextResponse("another site asked", 403)
        if scope["path"] == "/" or scope["path"].startswith("/api/"):
            header = headers.get("x-transect-token") or _asked(scope, "token")
            wanted = self.token
            if not header:
                header, wanted = _cookie(headers.get("cookie", ""), cookie_name(scope)), self._session
            if not secrets.compare_digest(header.encode(), wanted.encode()) and not self._coded(scope):
                return PlainTextResponse(
                    "open the address that `transect app` printed: it ends in a token", 403
                )
        return None

    def exchange(self, scope: Scope) -> Response | None:
        """The way on for a browser let in by its address: a cookie, and the page without token or code."""
        if scope["path"] != "/" or not (_asked(scope, "token") or _asked(scope, "code")):
            return None
        self._codes.discard(_asked(scope, "code"))
        answer = RedirectResponse("/", 303)
        answer.set_cookie(cookie_name(scope), self._session, httponly=True, samesite="strict")
        return answer

    def _coded(self, scope: Scope) -> bool:
        return scope["path"] == "/" and scope["method"] == "GET" and _asked(scope, "code") in self._codes


def cookie_name(scope: Scope) -> str:
    """The cookie of this server: browsers send one port's cookies to the others of a machine."""
    return f"transect-{(scope.get('server') or ('', 0))[1]}"


def _asked(scope: Scope, name: str) -> str:
    return parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[0]


def _cookie(header: str, name: str) -> str:
    try:
        cookie = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return cookie.value if cookie else ""

"""Who may use the server: the holder of a token, in a page that this server delivered.

A page of another site can make the browser send requests here, and with DNS rebinding even under a
name of its own. So every request needs a token, names this server in `Host`, and, if it changes
something, comes from this origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upscale.errors import UsageError

SHORTEST_TOKEN = 16
_TOKEN = re.compile(rf"[\w.~-]{{{SHORTEST_TOKEN},200}}", re.ASCII)
_SAFE_METHODS = ("GET", "HEAD")
_ALLOWED_SITES = ("same-origin", "none")
_STRICTEST_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"

_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the server.

    Attributes:
        token: Secret that every request must have.
        host: Address that the server listens on.
        port: Port that it listens on.
        code: Code that opens the page once, for the command line of a browser, which other users
            of this machine can see.
    """

    token: str
    host: str
    port: int
    code: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.token):
            raise UsageError(
                f"the token is too short or has unusual characters: use {SHORTEST_TOKEN} to 200 "
                "letters and digits"
            )

    @property
    def cookie(self) -> str:
        """Name of the cookie; servers on other ports of a host share its cookies."""
        return f"upscale-app-{self.port}"

    @property
    def url(self) -> str:
        """Address that opens the page for the holder of the token."""
        return self._url({"token": self.token})

    @property
    def url_for_once(self) -> str:
        """Address that opens the page once."""
        return self._url({"code": self.code})

    def _url(self, query: Mapping[str, str]) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/?{urlencode(query)}"

    def is_token(self, text: str) -> bool:
        """Return whether a text is the token, in a time that does not tell where it differs."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_own_name(self, host: str) -> bool:
        """Return whether a `Host` header names this server.

        Example:
            >>> access = Access("0123456789abcdef", "127.0.0.1", 8000)
            >>> access.is_own_name("localhost:8000"), access.is_own_name("evil.example:8000")
            (True, False)
        """
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name:
            name, port = host, ""
        if (port or "80") != str(self.port):
            return False
        name = name.strip("[]").lower()
        if is_loopback(self.host):
            return name in ("127.0.0.1", "localhost", "::1", self.host.lower())
        own = {self.host.lower(), socket.gethostname().lower(), "localhost"}
        return name in own or _is_address(name)


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
        (True, False, True)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Let only allowed requests through, and add headers that protect every response.

    Args:
        app: Application behind it.
        access: Who may use it.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._code = access.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        if not self._access.is_own_name(headers.get("host", "")):
            answer: ASGIApp = PlainTextResponse("This server has another name.", 421)
            await answer(scope, receive, _protected(send))
        elif self._is_entry(scope):
            await self._app(scope, receive, _protected(send, self._new_cookie()))
        else:
            answer = self._refusal(scope, headers) or self._app
            await answer(scope, receive, _protected(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request that is not passed on, None if it is."""
        if self._has_header(headers):  # pages of other sites cannot add it
            return None
        if not self._has_cookie(headers):
            text = "Open the address that `upscale app` has printed: it contains the token.\n"
            return PlainTextResponse(text, 403)
        if not _is_own_request(scope, headers):
            return PlainTextResponse("The request comes from another page.", 403)
        return None

    def _is_entry(self, scope: Scope) -> bool:
        """Return whether this is the address with the token or the code; it sets the cookie."""
        if scope["path"] != "/" or scope["method"] != "GET":
            return False
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if self._access.is_token(query.get("token", [""])[0]):
            return True
        is_code = hmac.compare_digest(query.get("code", [""])[0].encode(), self._code.encode())
        if not self._code or not is_code:
            return False
        self._code = ""
        return True

    def _new_cookie(self) -> str:
        """Return the header that sets the cookie; scripts cannot read it."""
        name, token = self._access.cookie, self._access.token
        return f"{name}={token}; HttpOnly; Path=/; SameSite=Strict"

    def _has_header(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._access.is_token(token.strip())

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._access.cookie)
        except CookieError:
            return False
        return cookie is not None and self._access.is_token(cookie.value)


def _is_own_request(scope: Scope, headers: Headers) -> bool:
    """Return whether a request with the cookie comes from a page of this server."""
    is_safe = scope["method"] in _SAFE_METHODS
    site = headers.get("sec-fetch-site")
    if site is not None and site not in _ALLOWED_SITES:
        return is_safe and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    origin = headers.get("origin")
    if origin is None:
        return is_safe
    return origin == f"{scope['scheme']}://{headers.get('host', '')}"


def _protected(send: Send, cookie: str | None = None) -> Send:
    """Return a function that adds headers to responses, and a cookie to one."""

    async def send_protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Content-Security-Policy", _STRICTEST_POLICY)
            if cookie is not None:
                headers["Set-Cookie"] = cookie
        await send(message)

    return send_protected

"""Who may ask, and from which page (docs/http.md "Who may ask"): Host, proxies, Origin, CORS, and the form of a body.

Without authentication the server trusts its own machine, so a page on the web must not reach it through a person's
browser: by another name for loopback (Host), by a form or script of its own (Origin), or by a tunnel (Forwarded).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from legato.core.errors import Forbidden, UnsupportedMedia
from legato.http.errors import refuse
from legato.http.headers import has_body, values
from legato.http.opening import Opening
from legato.http.routes import Takes

ALLOW_HEADERS: Final = b"authorization, content-type, last-event-id, x-api-key"
EXPOSE_HEADERS: Final = b"location, retry-after"
ALLOW_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE"
# Seconds a browser keeps a preflight's answer; Chromium caps it at 7200, and an origin taken back should not linger.
PREFLIGHT_MAX_AGE: Final = b"600"

_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_FOR: Final = re.compile(r'(?:^|[;,])\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]*)', re.IGNORECASE)


class Access:
    """The outermost ring: refuses who may not ask, answers preflights, and adds CORS to every answer, errors too.

    ``hosts`` are the names answered besides loopback. ``local_only`` is so without ``[auth]``: then Host is checked,
    and nobody may come from elsewhere through a proxy. ``takes`` says of a method and path that its body is no JSON.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        cors_origins: frozenset[str],
        hosts: frozenset[str],
        local_only: bool = True,
        takes: Mapping[tuple[str, str], Takes] = MappingProxyType({}),
    ) -> None:
        self._app = app
        self._takes = takes
        self._cors_origins = cors_origins
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}
        self._local_only = local_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origins = values(scope, b"origin")
        cors = _cors(origins[0]) if len(origins) == 1 and origins[0] in self._cors_origins else []

        def add_headers(message: Message) -> None:
            message["headers"] = [*_with_vary(message.get("headers", ())), *cors]

        answered = Opening(send, add_headers)
        try:
            if self._local_only:
                self._check_host(scope)
                _check_proxies(scope)
            self._check_origin(scope, origins)
            _check_media_type(scope, self._takes.get((scope["method"], scope["path"])))
        except (Forbidden, UnsupportedMedia) as error:
            await refuse(error, scope, receive, answered)
            return
        if origins and scope["method"] == "OPTIONS" and values(scope, b"access-control-request-method"):
            await _answer_preflight(allowed=bool(cors), send=answered)
        else:
            await self._app(scope, receive, answered)

    def _check_host(self, scope: Scope) -> None:
        named = values(scope, b"host")
        host = _HOST.fullmatch(named[0]) if len(named) == 1 else None
        name = host["name"].lower().removesuffix(".") if host else ""
        if name not in self._hosts and not name.endswith(".localhost"):
            shown = ", ".join(named) or "none"
            raise Forbidden(
                f"host {shown[:100]} is not answered, only loopback names and [server] hosts", code="host_refused"
            )

    def _check_origin(self, scope: Scope, origins: list[str]) -> None:
        """A browser says who asks by Origin; other clients say none."""
        own = _own_origin(scope)
        for origin in origins:
            if origin not in self._cors_origins and (own is None or _origin(origin) != own):
                raise Forbidden(
                    f"origin {origin[:100]} is neither the server's own nor in cors_origins", code="origin_refused"
                )


def _check_proxies(scope: Scope) -> None:
    for address in _named_by_proxies(scope):
        if not _is_loopback(address):
            raise Forbidden(
                f"the request comes through a proxy for {address[:100]}, and the server has no authentication",
                code="proxy_without_auth",
            )


def _named_by_proxies(scope: Scope) -> Iterator[str]:
    for value in values(scope, b"forwarded"):
        for found in _FOR.finditer(value):
            yield re.sub(r"\\(.)", r"\1", found[1].strip('"'))
    for value in values(scope, b"x-forwarded-for"):
        yield from (address.strip() for address in value.split(",") if address.strip())


def _is_loopback(node: str) -> bool:
    """Of ``127.0.0.1``, ``[::1]:80`` and the like. ``unknown`` and made-up names may be anybody."""
    if node.startswith("["):
        node = node[1:].partition("]")[0]
    elif node.count(":") == 1:
        node = node.partition(":")[0]
    try:
        address = ip_address(node)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _own_origin(scope: Scope) -> tuple[str, str, int] | None:
    named = values(scope, b"host")
    return _origin(f"{scope['scheme']}://{named[0]}") if len(named) == 1 else None


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, name and port; None for ``null`` and whatever else is no origin."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path or parts.query or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port if port is not None else _DEFAULT_PORTS[parts.scheme]


def _check_media_type(scope: Scope, takes: Takes | None) -> None:
    if not has_body(scope):
        return
    said = values(scope, b"content-type")
    media_type, *parameters = (part.strip().lower() for part in (said[0] if len(said) == 1 else "").split(";"))
    charset = next((one.partition("=")[2].strip('"') for one in parameters if one.startswith("charset=")), "utf-8")
    shown = ", ".join(said) or "none"
    if takes is not None:
        if media_type not in takes.content_types:
            raise UnsupportedMedia(f"the body must be {takes.content_types[0]}, its content type is {shown[:100]}")
    elif media_type != "application/json" or charset not in {"utf-8", "utf8"}:
        raise UnsupportedMedia(f"the body must be application/json in UTF-8, its content type is {shown[:100]}")
    encodings = values(scope, b"content-encoding")
    if any(one.lower() != "identity" for one in encodings):
        raise UnsupportedMedia(f"the body must not be compressed, its content encoding is {', '.join(encodings)[:100]}")


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", EXPOSE_HEADERS),
    ]


def _with_vary(headers: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Caches must keep the answers to two origins apart, also where neither was allowed."""
    return [*headers, (b"vary", b"origin")]


async def _answer_preflight(*, allowed: bool, send: Send) -> None:
    headers = [(b"allow", ALLOW_METHODS)]
    if allowed:
        headers = [
            (b"access-control-allow-methods", ALLOW_METHODS),
            (b"access-control-allow-headers", ALLOW_HEADERS),
            (b"access-control-max-age", PREFLIGHT_MAX_AGE),
        ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})

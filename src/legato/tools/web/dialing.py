"""The connection of one fetch: names are resolved here, every address is checked, and the socket is made for an address
only after one more look at it. So what was checked is what is connected to, whatever DNS says next.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from legato.core.errors import ToolError
from legato.tools.web.doorway import Doorway

_ANSWERS = 32
"""Addresses of a name that are looked at; a name with more is not one that people read."""
_CONNECTION = 10.0
"""Seconds for one connection, TLS included."""
# A server of names that never answers holds a thread for half a minute. These are the web tools' own, so that such
# names cannot take the threads in which the providers' names are resolved.
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="legato-web-dns")

Lookup: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host, as text. Raises ``OSError``."""


async def look_up(host: str, port: int) -> list[str]:
    """Ask the system, for both families."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(
        _threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedResolver(AbstractResolver):
    """One private address spoils the whole answer: a name that is public and private at once is an attack or a mistake.

    Raises ``ToolError`` through aiohttp, which lets it pass.
    """

    def __init__(self, doorway: Doorway, lookup: Lookup) -> None:
        self._doorway = doorway
        self._lookup = lookup

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp's own signature
    ) -> list[ResolveResult]:
        try:
            found = await self._lookup(host, port)
        except (OSError, UnicodeError) as error:
            raise ToolError(f"there is no host {host}: {_reason(error)}", code="web_unreachable") from error
        if not found:
            raise ToolError(f"there is no host {host}: it has no address", code="web_unreachable")
        return [self._answer(host, port, text) for text in found[:_ANSWERS]]

    async def close(self) -> None:
        """There is nothing open."""

    def _answer(self, host: str, port: int, text: str) -> ResolveResult:
        address = self._doorway.address(host, text)
        return ResolveResult(
            hostname=host,
            host=str(address),
            port=port,
            family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )


def session(
    doorway: Doorway, host: str, *, idle_timeout: float, headers: dict[str, str], lookup: Lookup = look_up
) -> aiohttp.ClientSession:
    """For one request to one host: no proxy, no cookies, no ``~/.netrc``, no connection of an earlier one."""

    def socket_for(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, proto, _, address = info
        doorway.address(host, str(address[0]))
        return socket.socket(family, kind, proto)

    connector = aiohttp.TCPConnector(
        resolver=CheckedResolver(doorway, lookup),
        use_dns_cache=False,
        force_close=True,
        limit=1,
        socket_factory=socket_for,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECTION, sock_read=idle_timeout),
    )


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "it is no host name"
    return error.strerror or str(error)

"""Which URLs may be asked for, and which addresses connected to. Everything of a fetch goes through here: the URL that
was given, each redirect, each answer of DNS, and the socket itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from yarl import URL

from legato.core.errors import ToolError
from legato.tools.web.addresses import NAMES_MAY_BE, Address, is_within, refusal_of

URL_CHARACTERS = 2_048
"""As long as browsers and search engines take them."""
_HOST_CHARACTERS = 253
_OWN_PORTS = (80, 443)
_FREE_PORTS = 1_024
# Names for this machine and this network, whatever they resolve to (RFC 6761, 6762, 9476, ICANN's .internal).
_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "intranet", "lan", "home.arpa")

_NAME = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_-])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ONLY_PUBLIC = "only public addresses are fetched, unless the configuration allows others"


class Doorway:
    """``allow_hosts`` are exact names, ``allow_private`` addresses and networks; both checked when configured."""

    def __init__(self, *, allow_hosts: Sequence[str] = (), allow_private: Sequence[str] = ()) -> None:
        self._hosts = frozenset(host.lower().rstrip(".") for host in allow_hosts)
        self._networks = tuple(ipaddress.ip_network(one) for one in allow_private)

    def url(self, text: str) -> URL:
        """The URL that is asked for, without its fragment. Raises ``ToolError`` with code ``web_refused``."""
        if len(text) > URL_CHARACTERS:
            raise _refused(f"the URL has {len(text)} characters, limit is {URL_CHARACTERS}")
        try:
            url = URL(text.strip()).with_fragment(None)
            host, port = url.raw_host, url.port
        except ValueError as error:
            raise _refused(f"{text!r} is no URL: {error}") from error
        if url.scheme not in {"http", "https"}:
            raise _refused(f"expected a URL that begins with http:// or https://, got {shown(text)!r}")
        if not host or len(host) > _HOST_CHARACTERS:
            raise _refused(f"{shown(text)!r} names no host")
        if url.raw_user is not None or url.raw_password is not None:
            raise _refused("a URL with a user or password is not fetched; leave out what stands before the @")
        self._check_port(port)
        self._check_host(host)
        return url

    def redirect(self, url: URL, location: str) -> URL:
        """Where an answer sends on to, checked as the first URL was. Raises ``ToolError``."""
        try:
            there = str(url.join(URL(location)))
        except ValueError as error:
            raise _refused(f"{url.host} redirects to {location[:200]!r}, which is no URL") from error
        try:
            checked = self.url(there)
        except ToolError as error:
            raise _refused(f"{url.host} redirects to {shown(there)}: {error.message}") from error
        if url.scheme == "https" and checked.scheme == "http":
            raise _refused(f"{url.host} redirects from https to {shown(there)}; ask for that yourself if it is meant")
        return checked

    def address(self, host: str, text: str) -> Address:
        """An address that ``host`` stands for, as it may be connected to. Raises ``ToolError``."""
        address = ipaddress.ip_address(text)
        kind = refusal_of(address)
        if kind is None or is_within(address, self._networks):
            return address
        if kind in NAMES_MAY_BE and host.lower().rstrip(".") in self._hosts:
            return address
        named = text if host == text else f"{host} is at {text}, which"
        raise _refused(f"{named} is {kind}, not public; {_ONLY_PUBLIC}")

    def _check_port(self, port: int | None) -> None:
        if port is None or not 0 < port <= 65_535:
            raise _refused("the URL's port is no port")
        if port < _FREE_PORTS and port not in _OWN_PORTS:
            raise _refused(f"port {port} is not fetched; below {_FREE_PORTS} only 80 and 443 are")

    def _check_host(self, host: str) -> None:
        """The literal forms, and names that are local by definition; all else is known when it is resolved."""
        if _is_address(host):
            self.address(host, host)
            return
        name = host.lower().rstrip(".")
        if not _NAME.fullmatch(name):
            raise _refused(f"{host[:100]!r} is no host name that can be asked for")
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            # 127.1, 0x7f000001, 2130706433: the system would take them for addresses (WHATWG URL, "ends in a number").
            raise _refused(f"{host} is a number that some take for an address; write the address in full")
        if name in self._hosts:
            return
        if any(name == local or name.endswith(f".{local}") for local in _LOCAL_NAMES) and not self._networks:
            raise _refused(f"{host} is a local name; {_ONLY_PUBLIC}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone id is for this machine's own links


def shown(url: str) -> str:
    """A URL for a message: without what may be secret in front of the host, and short."""
    try:
        text = str(URL(url).with_user(None)) if "@" in url else url
    except ValueError:
        text = url.rpartition("@")[2]
    return text if len(text) <= 200 else f"{text[:199]}…"


def _refused(message: str) -> ToolError:
    return ToolError(message, code="web_refused")

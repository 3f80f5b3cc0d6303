"""`legato doctor`: what is degraded, in the settings, in the file and in the server that runs on it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from legato.cli.api import connected
from legato.cli.counted import in_words
from legato.cli.failures import FAILED, Refused, Unreachable
from legato.cli.settings import configured
from legato.cli.untrusted import one_line
from legato.compose import checkup
from legato.config import Config
from legato.config.model import unsecret
from legato.core.ailments import Ailment
from legato.core.errors import ConfigError, StoreError

_HEADS: Final = (
    ("degraded", "degraded"),
    ("counted", "counted since the server's start"),
    ("noted", "as it is"),
)
_WIDTH: Final = 400
"""Characters of one ailment that are shown; `--json` has all of them."""


def run(*, url: str | None, db: Path | None, config: Path | None, as_json: bool) -> int:
    settings = configured({"server.db": db}, file=config)
    found = [*_of_the_settings(settings), *_of_what_is_kept(settings)]
    found += asyncio.run(_of_the_server(url or _url(settings)))
    # A cause may name a URL with its password.
    found = [msgspec.structs.replace(one, message=unsecret(one.message)) for one in found]
    degraded = [one for one in found if one.level == "degraded"]
    if as_json:
        sys.stdout.write(
            msgspec.json.encode(
                {"ok": not degraded}
                | {
                    level: [{"about": one.about, "message": one.message} for one in found if one.level == level]
                    for level, _ in _HEADS
                }
            ).decode()
            + "\n"
        )
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _page(found)))
    return FAILED if degraded else 0


def _page(found: Iterable[Ailment]) -> Iterator[str]:
    by_level = {level: [one for one in found if one.level == level] for level, _ in _HEADS}
    if not by_level["degraded"]:
        yield "nothing is degraded"
    for level, head in _HEADS:
        if by_level[level]:
            yield head
            for one in by_level[level]:
                yield f"  {one.about}: {one_line(one.message, _WIDTH)}"


def _of_the_settings(config: Config) -> Iterator[Ailment]:
    """Of the providers that are built in, those without a key are not used, and that is well."""
    without = [name for name, provider in config.providers.items() if not provider.ready]
    for name in without:
        provider = config.providers[name]
        meant = any(key.startswith(f"providers.{name}.") and not key.endswith(".api_key") for key in config.sources)
        where = provider.api_key_env or f"the file {provider.api_key_file}"
        yield Ailment(
            level="degraded" if meant else "noted", about=f"provider {name}", message=f"has no key: set {where}"
        )
    if config.default_model is None:
        yield Ailment(level="noted", about="models", message="there is no default: a request must name one")
    else:
        yield Ailment(level="noted", about="models", message=f"the default is {config.default_model}")
    for notice in config.notices:
        yield Ailment(level="degraded", about="settings", message=notice)


def _of_what_is_kept(config: Config) -> list[Ailment]:
    if not Path(config.server.db).is_file():
        return [Ailment(level="noted", about="database", message=f"there is no file {config.server.db} yet")]
    try:
        return checkup(config)
    except (ConfigError, StoreError) as error:
        return [Ailment(level="degraded", about="database", message=error.message)]


async def _of_the_server(url: str) -> list[Ailment]:
    try:
        async with connected(url) as api:
            page = (await api.get_bytes("/metrics")).decode("utf-8", "replace")
            found = [Ailment(level="noted", about="server", message=f"answers at {url}"), *in_words(page)]
            try:
                await api.get_bytes("/readyz")
            except Refused as refused:
                found.append(Ailment(level="degraded", about="server", message=f"is not ready: {refused.message}"))
    except Unreachable as error:
        return [Ailment(level="degraded" if error.connected else "noted", about="server", message=error.message)]
    except Refused as refused:
        return [Ailment(level="degraded", about="server", message=refused.message)]
    return found


def _url(config: Config) -> str:
    """Where a server of these settings answers from this machine."""
    host = config.server.host if config.server.loopback else "127.0.0.1"
    return f"http://[{host.strip('[]')}]:{config.server.port}" if ":" in host else f"http://{host}:{config.server.port}"

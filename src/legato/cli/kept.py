"""A turn from the database file itself, for when no server answers. It is only read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from legato.cli.failures import MISUSED, Failed
from legato.cli.settings import configured
from legato.compose import open_store
from legato.core.errors import ConfigError, NotFound, StoreError
from legato.ports import Store
from legato.runtime.reading.looking import view


def database(db: Path | None) -> Path | None:
    """The file that would be read: the one named, else the configuration's; None where there is none."""
    path = Path(configured({"server.db": db}, file=None).server.db)
    return path if path.is_file() else None


async def turn_json(db: Path, turn_id: str) -> bytes:
    """As `GET /v1/turns/{id}` gives it. Of a turn that has not ended, up to the last stored event."""
    async with _opened(db) as store:
        return msgspec.json.encode(await view(store, turn_id, None))


async def event_lines(db: Path, turn_id: str) -> bytes:
    async with _opened(db) as store:
        if await store.turn(turn_id) is None:
            raise NotFound(f"there is no turn {turn_id}")
        return b"".join([segment.lines for segment in await store.log(turn_id, after=0)])


@asynccontextmanager
async def _opened(db: Path) -> AsyncIterator[Store]:
    try:
        async with open_store(configured({"server.db": db}, file=None)) as store:
            yield store
    except NotFound as error:
        raise Failed(f"{db}: {error.message}") from error
    except (ConfigError, StoreError) as error:
        raise Failed(error.message, exit_code=MISUSED if isinstance(error, ConfigError) else 1) from error

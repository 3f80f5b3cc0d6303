"""The two stores that keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores.values import Make

from legato.ports import Store
from legato.stores.memory import MemoryStore
from legato.stores.sqlite import open_sqlite


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store: Store = MemoryStore() if request.param == "memory" else await open_sqlite(tmp_path / "legato.db")
    yield store
    await store.close()

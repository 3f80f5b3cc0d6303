from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.http.edge import Edge, serving


@pytest.fixture(scope="module")
async def shared_edge() -> AsyncIterator[Edge]:
    """For tests that leave nothing behind."""
    async with serving() as edge:
        yield edge


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with serving() as edge:
        yield edge

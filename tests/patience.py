"""Waiting for what nobody tells of: it is looked for until it is so."""

from __future__ import annotations

from collections.abc import Callable

import anyio

BOUND = 20.0
"""Seconds after which a test that waits has failed."""


async def until(true: Callable[[], object], *, every: float = 0.0, bound: float = BOUND) -> None:
    """``every`` is seconds between two looks, for what happens in another process."""
    with anyio.fail_after(bound):
        while not true():  # noqa: ASYNC110 - see above
            await anyio.sleep(every)

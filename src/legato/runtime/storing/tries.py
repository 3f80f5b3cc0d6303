"""The tries of one write. Whose time is over is not cut: a store that is slow would do the same work again and again,
each time for nobody, and be taken for one that is away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from anyio.abc import TaskGroup

from legato.core.errors import StoreError
from legato.core.records import TurnWrite
from legato.ports import Store

MOST_OPEN = 2
"""The one that hangs, and one that may get past it. More would only queue behind both."""
PATIENCE = 2
"""How often one is waited for before another is begun beside it: a store that is slow has answered by then, and would
be slower still if it were asked twice for everything."""


class Tries:
    """They run in ``tasks``. Those that still hang when its scope is cancelled the store may take all the same."""

    def __init__(self, store: Store, tasks: TaskGroup) -> None:
        self.open = 0
        """How many the store has not answered to."""
        self._store = store
        self._tasks = tasks
        self._waited = 0
        self._answers: deque[StoreError | None] = deque()
        self._answered = asyncio.Event()

    def begin(self, writes: Sequence[TurnWrite]) -> None:
        """One more, unless one has its answer by now, was not waited for long enough, or as many hang as may."""
        if self._answers or self.open == MOST_OPEN:
            return
        if self.open:
            self._waited += 1
        if not self.open or self._waited == PATIENCE:
            self.open += 1
            self._waited = 0
            self._tasks.start_soon(self._run, writes)

    async def answer(self) -> StoreError | None:
        """What the store has against it, from whichever try has an answer first; None if it took it."""
        while not self._answers:
            self._answered.clear()
            await self._answered.wait()
        return self._answers.popleft()

    async def _run(self, writes: Sequence[TurnWrite]) -> None:
        try:
            await self._store.write(writes)
        except StoreError as error:
            self._answers.append(error)
        else:
            self._answers.appendleft(None)  # whatever else was said: it is stored
        self.open -= 1
        self._answered.set()

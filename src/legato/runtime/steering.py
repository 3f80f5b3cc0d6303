"""What people say into a turn: to its machine where it runs here, else kept for whoever runs it."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from legato.core import inputs as i
from legato.core.errors import InvalidRequest, StoreUnavailable
from legato.core.posts import PostSteer
from legato.core.records import KeptSteer
from legato.core.steers import judged
from legato.core.text import clean
from legato.ports import Store
from legato.runtime.clock import new_id
from legato.runtime.journal import PersistenceFailedError
from legato.runtime.runner import TurnRunner

STEER_BYTES = 65_536
"""Of one steer's text: a word in passing. What is longer makes a turn of its own."""
STEERS = 100
"""Of one turn: each is read by every further request of it."""


class Steering:
    """``running`` gives the runner of a turn that runs here. ``persist_timeout`` is seconds: how long a steer may take
    to be stored."""

    def __init__(self, store: Store, running: Callable[[str], TurnRunner | None], *, persist_timeout: float) -> None:
        self._store = store
        self._running = running
        self._persist_timeout = persist_timeout

    async def steer(self, turn_id: str, post: PostSteer) -> KeptSteer:
        """Stored when this returns, with what became of it so far. A repeat with the same text is no fault.

        Raises ``RequestError``, ``StoreError``.
        """
        steer = self.read(post)
        runner = self._running(turn_id)
        if runner is not None and runner.hears:
            return await self._say(runner, steer)
        kept = await self._store.keep_steer(turn_id, steer, limit=STEERS)
        runner = self._running(turn_id)
        if runner is not None:  # it was taken up meanwhile
            runner.receive(i.Steered(steer_id=steer.steer_id, text=steer.text))
        return kept

    @staticmethod
    def read(post: PostSteer) -> KeptSteer:
        """As it would be kept. Raises ``InvalidRequest``."""
        text = clean(post.text)
        if not text.strip():
            raise InvalidRequest.at("/text", "is empty: say what the model shall hear")
        size = len(text.encode())
        if size > STEER_BYTES:
            message = f"has {size} bytes, limit is {STEER_BYTES}"
            raise InvalidRequest.at("/text", message, limit=STEER_BYTES, actual=size)
        return KeptSteer(steer_id=post.steer_id if isinstance(post.steer_id, str) else new_id(), text=text)

    async def _say(self, runner: TurnRunner, steer: KeptSteer) -> KeptSteer:
        turn = runner.machine.turn
        there = [_as_kept(runner, steer_id) for steer_id in turn.steered]
        if judged(runner.row.id, steer, there, ended=runner.machine.ended, limit=STEERS) is None:
            runner.receive(i.Steered(steer_id=steer.steer_id, text=steer.text))
        if steer.steer_id not in turn.steered:
            return await self._store.keep_steer(runner.row.id, steer, limit=STEERS)  # it is no longer ours to say
        with anyio.move_on_after(self._persist_timeout):
            try:
                await runner.kept()
            except PersistenceFailedError as failure:
                raise StoreUnavailable(f"{failure.message}; repeat the request with its steer_id") from failure
            return _as_kept(runner, steer.steer_id)
        seconds = self._persist_timeout
        raise StoreUnavailable(f"the store did not answer in {seconds:g} s; repeat the request with its steer_id")


def _as_kept(runner: TurnRunner, steer_id: str) -> KeptSteer:
    said = runner.machine.turn.steered[steer_id]
    return KeptSteer(steer_id=steer_id, text=said.text, state=said.state)

"""What people say into a turn: to its machine where it runs here, else kept for whoever runs it."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from legato.core import inputs as i
from legato.core.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from legato.core.posts import PostSteer
from legato.core.records import KeptSteer
from legato.core.steers import judged
from legato.core.text import clean
from legato.ports import Store
from legato.runtime.clock import new_id
from legato.runtime.reading.looking import is_free
from legato.runtime.runner import TurnRunner
from legato.runtime.storing.journal import PersistenceFailedError

STEER_BYTES = 65_536
"""Of one steer's text: a word in passing. What is longer makes a turn of its own."""
STEERS = 100
"""Of one turn: each is read by every further request of it."""

LOOK_SECONDS = 0.05
"""Between two looks whether another process, which looks once a second, has heard a steer."""


class Steering:
    """``running`` gives the runner of a turn that runs here, ``take_up`` brings it one if it needs one.
    ``persist_timeout`` is seconds: how long a steer may take to be stored, and to be heard by another process."""

    def __init__(
        self,
        store: Store,
        running: Callable[[str], TurnRunner | None],
        take_up: Callable[[str], None],
        *,
        persist_timeout: float,
    ) -> None:
        self._store = store
        self._running = running
        self._take_up = take_up
        self._persist_timeout = persist_timeout

    async def steer(self, turn_id: str, post: PostSteer) -> KeptSteer:
        """Stored when this returns, with what became of it so far, which the turn's log says, or will before it ends. A
        repeat with the same text is no fault.

        Raises ``RequestError``, ``StoreError``.
        """
        steer = self.read(post)
        runner = self._running(turn_id)
        if runner is not None and runner.hears and (said := await self._say(runner, steer)) is not None:
            return said
        kept = await self._store.keep_steer(turn_id, steer, limit=STEERS)
        runner = self._running(turn_id)
        if runner is not None:  # it was taken up meanwhile
            runner.receive(i.Steered(steer_id=steer.steer_id, text=steer.text))
        return kept if kept.state != "posted" else await self._heard(turn_id, steer.steer_id)

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

    async def _heard(self, turn_id: str, steer_id: str) -> KeptSteer:
        """What lies in the store, once whoever runs the turn has said so: until then the turn may end without it. Of a
        turn that waits or is queued, at once: its next owner reads it before it does anything.
        """
        with anyio.move_on_after(self._persist_timeout):
            while True:
                row = await self._store.turn(turn_id)
                kept = next((one for one in await self._store.steers(turn_id) if one.steer_id == steer_id), None)
                if row is None:
                    raise NotFound(f"there is no turn {turn_id}")
                if kept is None:
                    raise Conflict(f"turn {turn_id} has ended", code="turn_ended", turn_id=turn_id)
                if kept.state != "posted" or row.status in ("waiting", "queued"):
                    return kept
                if await is_free(self._store, row):
                    self._take_up(turn_id)
                await anyio.sleep(LOOK_SECONDS)
        said = f"whoever runs turn {turn_id} has not heard it in {self._persist_timeout:g} s"
        raise StoreUnavailable(f"{said}; repeat the request with its steer_id")

    async def _say(self, runner: TurnRunner, steer: KeptSteer) -> KeptSteer | None:
        """None if it is no longer ours to say."""
        turn = runner.machine.turn
        there = [_as_kept(runner, steer_id) for steer_id in turn.steered]
        if judged(runner.row.id, steer, there, ended=runner.machine.ended, limit=STEERS) is None:
            runner.receive(i.Steered(steer_id=steer.steer_id, text=steer.text))
        if steer.steer_id not in turn.steered:
            return None
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

"""An output that is too large for the log is kept beside its turn; the log gets its beginning and its end.

A store that is away holds a result up for a while, never for good: then what was cut off is lost, and the result says
so, with its numbers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import anyio
from msgspec import UNSET, UnsetType

from legato.core.blocks import CallError, Json, Outcome
from legato.core.cut import no_hint
from legato.core.errors import StaleEpoch, StoreError, StoreUnavailable
from legato.core.inputs import ToolFinished
from legato.core.results import output_href
from legato.observability import count, warn_once
from legato.ports import KeepOutput
from legato.runtime.calls.cancel import CancelFlag
from legato.runtime.calls.spill import Disk, Spill, SpillClosedError

_log = logging.getLogger(__name__)

_Put: TypeAlias = Callable[[int, bytes], Awaitable[None]]
"""Keeps a piece of one output, at its offset."""

CUT = 48 * 1024
"""Bytes of a large output that its result holds: what one goes on with, well under what a log's line may have."""
_PIECE = 1024 * 1024
"""Bytes that are written at a time, and held in memory."""
_DEADLINE = 5.0
"""Seconds for one write, as for every write."""
_PAUSES = (0.1, 0.4, 1.6, 3.2)
"""Seconds between the tries of one piece: a store that restarts is met again, a turn is not held for minutes."""


class Keeping:
    """``keep`` is None where there is no store: then every large output is cut for good."""

    def __init__(self, keep: KeepOutput | None, disk: Disk, *, grace: float) -> None:
        self._keep = keep
        self._disk = disk
        self._grace = grace

    async def finished(
        self,
        output: Json | Spill,
        *,
        turn_id: str,
        call_id: str,
        epoch: int,
        outcome: Outcome,
        error: CallError | UnsetType,
        cancel: CancelFlag,
    ) -> ToolFinished:
        """The result of a call with this output; a ``Spill`` is used up. Once cancelled it comes within the grace."""
        if not isinstance(output, Spill):
            return ToolFinished(call_id=call_id, outcome=outcome, output=output, error=error)
        put = None if self._keep is None else partial(self._keep, turn_id, call_id, epoch=epoch)
        try:
            trouble = await self._kept_unless_cancelled(output, put, cancel)
            cut = _cut(output, trouble)
        finally:
            output.close()
        kept = trouble is None
        return ToolFinished(
            call_id=call_id,
            outcome=outcome,
            output=cut,
            error=error,
            bytes=output.size if kept else UNSET,
            href=output_href(turn_id, call_id) if kept else UNSET,
        )

    async def _kept_unless_cancelled(self, spill: Spill, put: _Put | None, cancel: CancelFlag) -> str | None:
        """Why it is not kept, or None."""
        trouble: str | None = "the call was cancelled"

        async def give_up() -> None:
            await asyncio.wait({cancel.future()})
            await anyio.sleep(cancel.seconds_left(self._grace))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            trouble = await self._kept(spill, put)
            tasks.cancel_scope.cancel()
        return trouble

    async def _kept(self, spill: Spill, put: _Put | None) -> str | None:
        if put is None:
            return "there is no store"
        offset = 0
        try:
            while offset < spill.size:
                piece = await self._disk.read(spill, offset, _PIECE)
                trouble = await self._stored(put, offset, piece)
                if trouble is not None:
                    return trouble
                offset += len(piece)
        except OSError as error:
            return f"the disk failed ({error.strerror})"
        except SpillClosedError:
            return "the call has ended"
        return None

    async def _stored(self, put: _Put, offset: int, piece: bytes) -> str | None:
        trouble = ""
        for pause in (*_PAUSES, None):
            try:
                with anyio.fail_after(_DEADLINE):
                    await put(offset, piece)
                return None
            except (StoreUnavailable, TimeoutError):
                trouble = "the store did not answer"
            except StaleEpoch:
                return "another owner has the turn"
            except StoreError:
                return "the store refused them"
            if pause is not None:
                count("tool_output_retries")
                await anyio.sleep(pause)
        return trouble


def _cut(spill: Spill, trouble: str | None) -> str:
    """``trouble`` is why the whole is not kept."""
    if trouble is None:
        return spill.ends().within(CUT, no_hint)
    count("tool_outputs_cut")
    warn_once(_log, f"output_not_kept:{trouble}", f"an output of {spill.size} bytes is cut for good: {trouble}")
    return spill.ends().within(CUT, lambda _: f", and lost: {trouble}")

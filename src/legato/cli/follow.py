"""An honest reader of one turn: it has a cursor, loses the line as often as it must, and comes back to where it was."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

import msgspec

from legato.cli.api import Api
from legato.cli.failures import Failed, Refused, Unreachable
from legato.cli.sse import Message, SseParser

RETRY_SECONDS: Final = 1.0
"""Until the server says another with `retry:`."""
RETRY_MAX_SECONDS: Final = 15.0


class Frame(NamedTuple):
    """One event as it came. ``line`` is its JSON."""

    seq: int
    type: str
    line: bytes


class Lost(NamedTuple):
    """The line is lost and will be tried again in ``seconds``."""

    why: str
    seconds: float


class _Seq(msgspec.Struct):
    seq: int


class Follower:
    """``after`` is the seq up to which everything has come. ``lost`` is told each time the line is; ``found`` when it
    was lost and is there again."""

    def __init__(
        self,
        api: Api,
        turn_id: str,
        *,
        after: int = 0,
        each: bool = False,
        lost: Callable[[Lost], None],
        found: Callable[[], None],
    ) -> None:
        self.after = after
        self._api = api
        self._turn_id = turn_id
        self._each = each
        self._lost = lost
        self._found = found
        self._retry = RETRY_SECONDS
        self._tries = 0

    async def batches(self) -> AsyncGenerator[list[Frame], None]:
        """Frames as they come, several at once where several came at once, until the turn's end. Raises ``Refused``
        for what no second try would change."""
        while True:
            asked: float | None = None
            try:
                async with self._api.events(self._turn_id, after=self.after, each=self._each) as response:
                    self._is_back()
                    if response.status == 204:
                        return
                    parser = SseParser()
                    async for piece in self._api.pieces(response):
                        frames = [_frame(message) for message in parser.feed(piece)]
                        if parser.retry_ms is not None:
                            self._retry = min(parser.retry_ms / 1000, RETRY_MAX_SECONDS)
                        if not frames:
                            continue
                        self._tries = 0
                        self.after = max(self.after, frames[-1].seq)
                        yield frames
                        if frames[-1].type == "turn_end":
                            return
                why = "the stream ended before the turn did"
            except Unreachable as error:
                why = error.message
            except Refused as error:
                if not error.passing:
                    raise
                why, asked = error.message, error.retry_after
            await self._pause(why, asked)

    def _is_back(self) -> None:
        if self._tries:
            self._found()

    async def _pause(self, why: str, asked: float | None) -> None:
        # Apart from each other by chance: a server that restarts is not met by all of its readers at once.
        backoff = self._retry * 2 ** min(self._tries, 10) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        seconds = min(backoff if asked is None else max(asked, backoff), RETRY_MAX_SECONDS)
        self._tries += 1
        self._lost(Lost(why, seconds))
        await asyncio.sleep(seconds)


def _frame(message: Message) -> Frame:
    try:
        return Frame(msgspec.json.decode(message.data, type=_Seq).seq, message.event, message.data)
    except msgspec.DecodeError as error:
        raise Failed(f"the server sent an event that is none of Legato's: {error}") from error

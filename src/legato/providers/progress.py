"""Whether a response gets anywhere: what of it means something, and what of it has no end.

Models are known to write white space for ever inside arguments, or arguments that never close (2026-11). Every byte of
that is paid for, so the response is stopped, not read to an end that does not come.
"""

from __future__ import annotations

from collections.abc import Sequence

from legato.core.inputs import BlockClosed, BlockOpened, Delta, ProviderInput, UsageReported
from legato.providers.sse import FRAME_MAX

BLANK_MAX = 16 * 1024
"""Characters of white space in a row. The indentation of the deepest code is hundreds."""
UNMEANT_MAX = 2 * FRAME_MAX
"""Bytes in a row of which nothing comes. One frame may be long; as many bytes of pings would be days of them."""


class Progress:
    """``argument_bytes`` is what a call may have; past it the model is answered so. A call that reaches twice as many
    is not going to end."""

    __slots__ = ("_argument_bytes", "_blank", "_calls", "_unmeant", "endless")

    def __init__(self, argument_bytes: int) -> None:
        self._argument_bytes = 2 * argument_bytes
        self._calls: dict[int, int] = {}
        self._blank = 0
        self._unmeant = 0
        self.endless: str | None = None
        """What has no end, with its number."""

    def hear(self, size: int, batch: Sequence[ProviderInput]) -> bool:
        """``size`` bytes came. Whether anything of what they say means something."""
        meant = False
        for said in batch:
            if type(said) is Delta:  # first, since nearly all are
                if said.key in self._calls:
                    self._argue(said)
                if said.text.isspace():
                    self._wait(len(said.text))
                    continue
            elif type(said) is BlockOpened:
                if said.block_type == "tool_use":
                    self._calls[said.key] = 0
            elif type(said) is BlockClosed:
                self._calls.pop(said.key, None)
            elif type(said) is UsageReported:
                continue  # some repeat it in every frame
            meant = True
            self._blank = 0
        if meant:
            self._unmeant = 0
            return True
        self._unmeant += size
        if self._unmeant > UNMEANT_MAX:
            self.endless = f"{self._unmeant} bytes without a word, limit is {UNMEANT_MAX}"
        return False

    def _wait(self, blank: int) -> None:
        self._blank += blank
        if self._blank > BLANK_MAX:
            self.endless = f"{self._blank} characters of white space in a row, limit is {BLANK_MAX}"

    def _argue(self, said: Delta) -> None:
        text = said.text
        size = self._calls[said.key] + (len(text) if text.isascii() else len(text.encode()))
        self._calls[said.key] = size
        if size > self._argument_bytes:
            self.endless = f"the arguments of a call have {size} bytes and no end, limit is {self._argument_bytes}"

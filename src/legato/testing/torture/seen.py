"""What a check is given of a turn that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from legato.core.blocks import ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn
from legato.testing.torture.told import Told, World
from legato.testing.torture.tools import Effect


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """``turn`` is the fold of a reader who has seen its end; ``effects`` are the turn's own."""

    told: Told
    turn: Turn
    effects: Sequence[Effect]
    world: World

    @property
    def calls(self) -> Mapping[str, ToolUseBlock]:
        return {block.call_id: block for block in self.turn.blocks if isinstance(block, ToolUseBlock)}

    @property
    def results(self) -> Mapping[str, ToolResultBlock]:
        return {block.call_id: block for block in self.turn.blocks if isinstance(block, ToolResultBlock)}

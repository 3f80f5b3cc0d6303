"""A turn from end to end: posted, followed, stored, read back."""

from __future__ import annotations

from pathlib import Path

import msgspec
from tests.e2e.house import configured, script, serving

from legato.core.fold import fold


async def test_a_script_turn_is_the_same_live_late_each_and_as_rows(tmp_path: Path) -> None:
    async with serving(configured(tmp_path)) as house:
        said = script(
            {"thinking": "Let me see", "signature": "s1"},
            {"text": "I will look in two places. 🐉 ", "repeat": 40},
            {"tool": "doc_search", "input": {"query": "dragon"}},
            {"end": "calls"},
            {"text": "Here it is."},
        )
        started = await house.post(said)
        turn_id = started["assistant_turn"]["id"]
        live = await house.followed(turn_id, each=True)
        late = await house.followed(turn_id)
        each = await house.followed(turn_id, each=True)
        view = await house.turn(turn_id)
    assert [event.seq for event in live] == list(range(1, len(live) + 1))
    assert each == live
    assert len(late) < len(live)
    assert fold(late).blocks == fold(live).blocks
    shown = msgspec.json.decode(msgspec.json.encode(fold(live).blocks))
    assert view["blocks"] == shown
    assert view["status"] == "complete"
    assert view["last_seq"] == live[-1].seq

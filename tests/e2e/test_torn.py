"""A power cut, as near as a test comes to one: the server is killed, and the last bytes of its files are gone.

What was said to be stored was synced, so no power cut takes that. Here it is taken all the same: the turn goes on from
what is left, and whoever comes back to it, or comes late, is told the same.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from tests.conformance.witness import Witness, agree
from tests.core.test_verifying import found_in
from tests.e2e.house import MODELS, Visitor, spawned, upstream_environ
from tests.patience import BOUND

from legato.core import events as e
from legato.testing.chance import Chance
from legato.testing.store import locked
from legato.testing.upstream import Say, Script, Stall, Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MODEL = MODELS["anthropic"]


async def watch_to_the_end(witness: Witness, visitor: Visitor) -> None:
    with anyio.fail_after(BOUND):
        while not witness.events or not isinstance(witness.events[-1], e.TurnEnd):
            await witness.watch(visitor)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_turn_goes_on_from_what_a_torn_database_has_of_it(seed: int, tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        environ = upstream_environ(upstream)
        upstream.enqueue(Script([Say("And so on. " * 100, pace=300), Stall()]), Script([Say("That was all.")]))
        async with spawned(tmp_path, environ=environ) as server:
            witness = Witness(await server.ask("Talk", model=MODEL))
            async with anyio.create_task_group() as readers:
                readers.start_soon(witness.watch, server)
                await witness.saw(300, e.BlockDelta)
                readers.cancel_scope.cancel()
            await server.kill()
            Chance(seed).file().on(tmp_path / "legato.db-wal")
            await server.process.start()
            await watch_to_the_end(witness, server)
            turn = await agree(server, witness)
    assert (turn.status, [block.text for block in turn.blocks]) == ("complete", ["That was all."])
    assert found_in(tmp_path / "legato.db") == []


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_turn_goes_on_from_what_a_torn_spool_has_of_it(seed: int, tmp_path: Path) -> None:
    async with Upstream.open() as upstream:
        environ = {**upstream_environ(upstream), "LEGATO_STORAGE__RETRY_WINDOW": "0.3"}
        upstream.enqueue(Script([Say("And so on. " * 100, pace=300), Stall()]), Script([Say("That was all.")]))
        async with spawned(tmp_path, environ=environ) as server:
            turn_id = await server.ask("Talk", model=MODEL)
            await server.until(turn_id, lambda event: isinstance(event, e.BlockDelta))
            with locked(tmp_path / "legato.db"):
                await server.followed(turn_id)
                await server.kill()
            [spooled] = (tmp_path / "legato.db.spool").iterdir()
            Chance(seed).file().on(spooled)
            await server.process.start()
            witness = Witness(turn_id)
            await watch_to_the_end(witness, server)
            await agree(server, witness)
    assert list((tmp_path / "legato.db.spool").iterdir()) == []
    assert found_in(tmp_path / "legato.db") == []

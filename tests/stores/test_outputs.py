"""What every store does with results: the block of one, and the bytes of those too large for a block."""

from __future__ import annotations

import pytest
from tests.stores.values import Make

from legato.core.blocks import TextBlock, ToolResultBlock, ToolUseBlock
from legato.core.errors import RowRefused, StaleEpoch
from legato.ports import Store

EVERY_BYTE = bytes(range(256))


async def kept(store: Store, turn_id: str, *pieces: bytes, call_id: str = "c1", epoch: int = 0) -> bytes:
    offset = 0
    for piece in pieces:
        await store.keep_output(turn_id, call_id, offset, piece, epoch=epoch)
        offset += len(piece)
    return b"".join(pieces)


async def whole(store: Store, turn_id: str, call_id: str = "c1") -> bytes:
    return await store.output(turn_id, call_id, offset=0, limit=1 << 40)


def result(index: int, call_id: str, output: object = None) -> ToolResultBlock:
    return ToolResultBlock(
        index=index,
        round=1,
        state="complete",
        call_id=call_id,
        tool_name="look",
        origin="server",
        outcome="ok",
        output=output,
    )


async def test_any_range_over_any_pieces_is_the_bytes_that_were_kept(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    said = await kept(store, turn_id, b"a", EVERY_BYTE, b"xyz" * 7, b"\x00", EVERY_BYTE[::-1])
    for offset in (0, 1, 2, 100, 256, 257, 258, 278, 279, 280, 533, 534, 535, 9**9):
        for limit in (0, 1, 2, 21, 256, 300, 9**9):
            assert await store.output(turn_id, "c1", offset=offset, limit=limit) == said[offset : offset + limit]


async def test_where_nothing_is_kept_nothing_comes_back(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await kept(store, turn_id, b"abc")
    assert await whole(store, turn_id, "c2") == b""
    assert await whole(store, "nobody") == b""


async def test_a_piece_may_be_kept_again_and_an_empty_one_is_nothing(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    said = await kept(store, turn_id, b"abc", b"", b"def", b"ghi")
    await store.keep_output(turn_id, "c1", 0, b"abc", epoch=0)
    await store.keep_output(turn_id, "c1", 3, b"", epoch=0)
    await store.keep_output(turn_id, "c1", 3, b"def", epoch=0)
    assert await whole(store, turn_id) == said


async def test_a_call_that_runs_again_replaces_what_its_first_run_kept(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await kept(store, turn_id, b"abc", b"def", b"ghi")
    await kept(store, turn_id, b"other", call_id="c2")
    said = await kept(store, turn_id, b"abc", b"DE")
    assert await whole(store, turn_id) == said
    assert await whole(store, turn_id, "c2") == b"other"


async def test_a_piece_takes_the_place_of_the_end_of_another(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    for offset, piece in ((0, b"abc"), (3, b"def"), (5, b"XY"), (1, b"-")):
        await store.keep_output(turn_id, "c1", offset, piece, epoch=0)
        if offset == 5:
            assert await store.output(turn_id, "c1", offset=0, limit=100) == b"abcdeXY"
            assert await store.output(turn_id, "c1", offset=4, limit=2) == b"eX"
    assert await store.output(turn_id, "c1", offset=0, limit=100) == b"a-"


async def test_an_owner_that_was_followed_by_another_keeps_no_piece_and_spoils_none(store: Store, make: Make) -> None:
    """A process that was stopped in the midst of it, and wakes up while the call runs again elsewhere."""
    turn_id = (await make.begun(store)).assistant.id
    await kept(store, turn_id, b"abc", b"def")
    assert await store.claim(turn_id, epoch=1, owner="next")
    said = await kept(store, turn_id, b"ABC", b"DEF", epoch=1)
    for offset, piece in ((0, b"abc"), (3, b"def"), (6, b"ghi"), (3, b"DEF")):
        with pytest.raises(StaleEpoch) as raised:
            await store.keep_output(turn_id, "c1", offset, piece, epoch=0)
        assert raised.value.turn_id == turn_id
    assert await whole(store, turn_id) == said


async def test_however_much_was_kept_the_next_run_and_a_deleted_chat_leave_nothing_of_it(
    store: Store, make: Make
) -> None:
    new = await make.begun(store)
    other = (await make.begun(store)).assistant.id
    for turn_id in (new.assistant.id, other):
        await kept(store, turn_id, *[bytes([number]) * 3 for number in range(30)])
    said = await kept(store, new.assistant.id, bytes(3), b"anew")
    assert await whole(store, new.assistant.id) == said
    assert await store.output(new.assistant.id, "c1", offset=30, limit=99) == b""
    await kept(store, new.assistant.id, *[b"x"] * 30, call_id="c2")
    await store.delete_chat(new.assistant.chat_id)
    assert await whole(store, new.assistant.id, "c2") == b""
    assert len(await whole(store, other)) == 90


async def test_nothing_is_read_over_a_hole(store: Store, make: Make) -> None:
    turn_id = (await make.begun(store)).assistant.id
    await store.keep_output(turn_id, "c1", 10, b"later", epoch=0)
    assert await whole(store, turn_id) == b""
    assert await store.output(turn_id, "c1", offset=11, limit=3) == b"ate"
    await store.keep_output(turn_id, "c1", 20, b"x", epoch=0)
    assert await store.output(turn_id, "c1", offset=12, limit=100) == b"ter"
    assert await store.output(turn_id, "c1", offset=15, limit=100) == b""
    assert await store.output(turn_id, "c1", offset=20, limit=100) == b"x"


async def test_an_output_is_kept_for_a_turn_that_is_there_and_goes_with_it(store: Store, make: Make) -> None:
    with pytest.raises(RowRefused) as raised:
        await store.keep_output("nobody", "c1", 0, b"abc", epoch=0)
    assert raised.value.turn_id == "nobody"
    await store.keep_output("nobody", "c1", 0, b"", epoch=0)
    new = await make.answered(store)
    await kept(store, new.assistant.id, b"abc")
    await store.delete_chat(new.assistant.chat_id)
    assert await whole(store, new.assistant.id) == b""


# Results


async def test_a_result_is_found_in_any_turn_of_its_chat_and_in_no_other(store: Store, make: Make) -> None:
    first = await make.begun(store)
    chat_id = first.assistant.chat_id
    call = ToolUseBlock(
        index=0, round=1, state="complete", text="{}", call_id="c1", tool_name="look", origin="server", input={}
    )
    blocks = (call, result(1, "c1", {"é": [1]}), TextBlock(index=2, round=1, state="complete", text="c1"))
    await store.write([make.said(first.assistant.id, 1, 3, blocks=blocks)])
    await store.write([make.ending(first.assistant.id)])
    aside = await make.answered(store, chat_id)
    other = await make.answered(store)
    second = await make.begun(store, chat_id, prev=first.assistant.id)
    await store.write([make.said(second.assistant.id, 1, 3, blocks=(result(0, "c2"),))])
    assert await store.result(chat_id, "c1") == (first.assistant.id, blocks[1])
    assert await store.result(chat_id, "c2") == (second.assistant.id, result(0, "c2"))
    assert await store.result(other.assistant.chat_id, "c1") is None
    assert await store.result(chat_id, "c3") is None
    assert await store.result("nobody", "c1") is None
    assert aside.assistant.chat_id == chat_id


async def test_of_two_results_of_one_name_the_newest_turns_is_found(store: Store, make: Make) -> None:
    first = await make.answered(store)
    second = await make.answered(store, first.assistant.chat_id, prev=first.assistant.id)
    for new in (second, first):
        await store.write([make.said(new.assistant.id, 1, 3, blocks=(result(0, "c1", new.assistant.id),))])
    found = await store.result(first.assistant.chat_id, "c1")
    assert found == (second.assistant.id, result(0, "c1", second.assistant.id))


async def test_a_result_is_not_changed_by_changing_what_was_got(store: Store, make: Make) -> None:
    new = await make.begun(store)
    await store.write([make.said(new.assistant.id, 1, 3, blocks=(result(0, "c1", [1]),))])
    found = await store.result(new.assistant.chat_id, "c1")
    assert found is not None
    found[1].output.append(2)
    assert await store.result(new.assistant.chat_id, "c1") == (new.assistant.id, result(0, "c1", [1]))

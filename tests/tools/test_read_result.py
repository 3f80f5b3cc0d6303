"""``read_result``: all of a long result can be read and searched, a piece at a time, and nobody else's."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from legato import ToolContext, ToolError, tool
from legato.core.blocks import CallError, Json, ToolResultBlock
from legato.core.errors import ConfigError
from legato.tools.excerpts import Excerpt, find
from legato.tools.read_result import read_result
from legato.tools.registry import ToolRegistry

pytestmark = pytest.mark.anyio


class Kept:
    """Results of one chat: those in the log, and outputs beside the turn, which are given at most ``most`` bytes at a
    time."""

    def __init__(self, *blocks: ToolResultBlock, beside: bytes = b"", most: int = 2**20) -> None:
        self.blocks = {block.call_id: block for block in blocks}
        self.beside = beside
        self.most = most
        self.asked: list[int] = []

    async def result(self, chat_id: str, call_id: str) -> tuple[str, ToolResultBlock] | None:
        block = self.blocks.get(call_id) if chat_id == "chat" else None
        return None if block is None else ("turn", block)

    async def output(self, turn_id: str, call_id: str, *, offset: int, limit: int) -> bytes:
        assert (turn_id, call_id) == ("turn", "c1")
        self.asked.append(offset)
        return self.beside[offset : offset + min(limit, self.most)]


def block(output: Json, **fields: Json) -> ToolResultBlock:
    made = ToolResultBlock(
        index=1, round=1, state="complete", call_id="c1", tool_name="look", origin="server", outcome="ok", output=output
    )
    return replace(made, **fields)


def large(text: str, **kept: int) -> Kept:
    data = text.encode()
    return Kept(block("cut", bytes=len(data), href="/v1/turns/turn/outputs/c1"), beside=data, **kept)


async def called(store: Kept, chat_id: str = "chat", **input: Json) -> str:
    made = read_result(store)
    context = ToolContext(
        turn_id="t",
        chat_id=chat_id,
        call_id="k",
        principal="local",
        idempotency_key="key",
        state={},
        emit=lambda _: None,
        cancelled=lambda: False,
    )
    text = await made.bind({"call_id": "c1", **input}, context)()  # type: ignore[misc]
    assert isinstance(text, str)
    assert len(text.encode()) < made.max_output, "it is never cut itself"
    return text


def page_of(said: str) -> tuple[int, int, str, int | None]:
    """From which byte to which, the text, and where to go on."""
    first, _, rest = said.partition("]\n")
    where = re.search(r"; bytes (\d+) to (\d+)$", first)
    assert where is not None
    text, _, last = rest.rpartition("\n[")
    goes_on = re.fullmatch(r"go on with start=(\d+)\]", last)
    assert goes_on is not None or last == "that is the end]"
    return int(where[1]), int(where[2]), text, None if goes_on is None else int(goes_on[1])


async def all_of(store: Kept, **first: Json) -> list[str]:
    pages: list[str] = []
    start: int | None = 0
    while start is not None:
        begin, stop, text, start = page_of(await called(store, start=start, **first))
        assert stop - begin == len(text.encode())
        pages.append(text)
    return pages


@pytest.mark.parametrize("text", ["x" * 100_000, "one line\n" * 12_000, "é\U0001f600" * 20_000, "short", ""])
async def test_page_by_page_the_whole_is_read_wherever_it_lies(text: str) -> None:
    assert "".join(await all_of(large(text))) == text
    assert "".join(await all_of(Kept(block(text)))) == text


async def test_a_page_ends_with_a_line_where_one_ends_near() -> None:
    pages = await all_of(large("one line\n" * 12_000))
    assert len(pages) > 2
    assert all(page.endswith("\n") for page in pages)


async def test_a_page_in_the_middle_reads_nothing_that_is_in_front_of_it() -> None:
    store = large("x" * 3_000_000)
    await called(store, start=2_000_000)
    assert min(store.asked) == 2_000_000


async def test_what_is_no_text_is_read_as_compact_json() -> None:
    assert await all_of(Kept(block({"a": [1, "é"]}))) == ['{"a":[1,"é"]}']


async def test_an_end_may_be_named_and_is_bounded() -> None:
    store = large("0123456789" * 10_000)
    assert page_of(await called(store, start=5, end=25)) == (5, 25, "56789012345678901234", 25)
    begin, stop, _, _ = page_of(await called(store, start=0, end=90_000))
    assert stop - begin == 48 * 1024


async def test_a_start_within_a_character_begins_with_the_next_one() -> None:
    assert page_of(await called(large("é" * 100), start=3, end=12)) == (4, 12, "é" * 4, 12)
    assert page_of(await called(large("\U0001f600" * 100), start=1, end=2)) == (4, 8, "\U0001f600", 8)


@pytest.mark.parametrize(
    ("input", "said"),
    [
        ({"start": 11}, "start is 11, the result has bytes 0 to 10"),
        ({"start": 10}, "start is 10, the result has bytes 0 to 10"),
        ({"start": -1}, "start is -1, the result has bytes 0 to 10"),
        ({"start": 5, "end": 5}, "end is 5, it is more than start, which is 5"),
        ({"pattern": ""}, "pattern has 0 characters, it is 1 to 200"),
        ({"pattern": "x" * 201}, "pattern has 201 characters, it is 1 to 200"),
    ],
)
async def test_what_is_asked_wrongly_is_said_with_the_numbers(input: dict[str, Json], said: str) -> None:
    with pytest.raises(ToolError) as caught:
        await called(large("0123456789"), **input)
    assert caught.value.message == said


async def test_a_call_that_is_not_of_this_chat_is_not_there() -> None:
    store = large("secret")
    for chat, call in (("another", "c1"), ("chat", "c2")):
        with pytest.raises(ToolError) as caught:
            await called(store, chat, call_id=call)
        assert caught.value.message == f"there is no result of a call {call!r} in this chat"


async def test_of_a_failed_call_it_says_how_it_ended_and_reads_what_it_gave() -> None:
    failed = Kept(block(None, outcome="error", error=CallError("x", "no such city")))
    assert await called(failed) == (
        "[0 bytes of look; the call ended as error: no such city; bytes 0 to 0]\n\n[that is the end]"
    )
    half = Kept(block("half", outcome="timeout", error=CallError("timeout", "timed out after 5 s")))
    assert "; the call ended as timeout: timed out after 5 s; bytes 0 to 4]\nhalf\n" in await called(half)
    assert "[4 bytes of look; the call ended as unknown;" in await called(Kept(block("half", outcome="unknown")))


async def test_an_output_that_was_not_kept_is_read_as_far_as_the_log_has_it() -> None:
    cut = Kept(block("beginning and end", bytes=UNSET, href=UNSET))
    assert await all_of(cut) == ["beginning and end"]


async def test_an_output_that_is_gone_is_an_error_and_no_endless_reading() -> None:
    store = large("x" * 1000)
    store.beside = b"x" * 100
    for asked in ({}, {"pattern": "y"}):
        with pytest.raises(ToolError) as caught:
            await called(store, **asked)
        assert caught.value.message == "of this result nothing is kept from byte 100 on"


async def test_a_text_is_found_with_its_byte_and_what_is_around_it() -> None:
    store = large("füll\n" * 1000 + "  the Dragon sleeps here  \n" + "füll\n" * 1000)
    assert await called(store, pattern="dragon SLEEPS") == (
        "[12027 bytes of look; 'dragon SLEEPS' stands at]\nbyte 6006:   the Dragon sleeps here  \n[that is all]"
    )
    assert await called(store, pattern="unicorn", start=7) == (
        "[12027 bytes of look; 'unicorn' is not in it from byte 7 on]"
    )


async def test_a_pattern_is_plain_text_and_no_expression() -> None:
    said = await called(large("aaaa (a+)+$ aaaa"), pattern="(a+)+$")
    assert "byte 5: aaaa (a+)+$ aaaa" in said


async def test_more_places_than_are_shown_are_reached_by_going_on() -> None:
    store = large("".join(f"line {number} has a needle\n" for number in range(50)))
    lines: list[str] = []
    start: int | None = 0
    while start is not None:
        said = await called(store, pattern="needle", start=start)
        lines += re.findall(r"^byte \d+: (.*)$", said, re.MULTILINE)
        more = re.search(r"go on with start=(\d+)\]$", said)
        start = None if more is None else int(more[1])
    assert lines == [f"line {number} has a needle" for number in range(50)]


def excerpts_of(text: str, pattern: str) -> list[int]:
    """As simply as it can be said: every place, unless the excerpt before shows it."""
    places: list[int] = []
    at = text.find(pattern)
    while at >= 0:
        places.append(len(text[:at].encode()))
        stop = min(at + len(pattern) + 160, len(text))
        line_end = text.find("\n", at + len(pattern), stop)
        at = text.find(pattern, stop if line_end < 0 else line_end)
    return places


@given(
    pieces=st.lists(st.sampled_from(["a", "b", "é", "\n", "\U0001f600", "ab" * 90, "\n" * 5]), max_size=60),
    pattern=st.sampled_from(["a", "ab", "ba", "é\U0001f600", "\n\n", "b\na"]),
    most=st.integers(1, 50),
)
async def test_places_are_found_wherever_the_pieces_that_are_read_end(
    pieces: Sequence[str], pattern: str, most: int
) -> None:
    text = "".join(pieces)
    data = text.encode()

    async def read(offset: int, limit: int) -> bytes:
        return data[offset : offset + min(limit, most)]

    found: list[Excerpt] = []
    start: int | None = 0
    while start is not None:
        more, start = await find(read, pattern, start=start, size=len(data))
        found += more
    assert [one.at for one in found] == excerpts_of(text, pattern)
    assert all(data[one.at :].startswith(pattern.encode()) for one in found)
    assert all(pattern in one.text for one in found)


async def test_a_letter_whose_small_form_is_two_characters_moves_no_place() -> None:
    said = await called(large("İİİ needle"), pattern="NEEDLE")
    assert "byte 7: İİİ needle" in said


def test_its_name_is_kept_for_it() -> None:
    with pytest.raises(ConfigError) as caught:

        @tool(name="read_result")
        def mine() -> None:
            """x"""

    assert caught.value.message.endswith(
        "tool 'read_result': a built-in tool has this name; give it another with name="
    )


def test_it_is_a_read_and_has_its_own_formatter_so_nothing_is_logged_of_it() -> None:
    registry = ToolRegistry([read_result(Kept())])
    made = registry.get("read_result")
    assert made is not None
    assert (made.effect, made.kind) == ("read", "async")
    assert registry.formatters.names() == ["read_result"]
    assert list(made.spec.input_schema["properties"]) == ["call_id", "start", "end", "pattern"]

"""A turn as it is drawn, from events alone."""

from __future__ import annotations

import io

from legato.cli.drawing import Drawing
from legato.cli.outlet import Plain
from legato.core import events as e
from legato.core.blocks import BlockType, CallError
from legato.core.fold import Turn
from legato.core.usage import Usage


class Screen:
    """Draws events on a page that has one column of text."""

    def __init__(self) -> None:
        self.page = io.StringIO()
        self.turn = Turn()
        self.drawing = Drawing(Plain(self.page, self.page), self.turn)
        self.seq = 0

    def see(self, *events: e.Event) -> str:
        """What these events add to the page."""
        before = len(self.page.getvalue())
        for event in events:
            self.turn.apply(event)
            self.drawing.draw(event)
        return self.page.getvalue()[before:]

    def next(self) -> int:
        self.seq += 1
        return self.seq

    def begin(self, index: int, block_type: BlockType, call: str | None = None, tool: str = "look") -> e.BlockStart:
        if call is None:
            return e.BlockStart(seq=self.next(), index=index, round=1, block_type=block_type)
        return e.BlockStart(
            seq=self.next(), index=index, round=1, block_type=block_type, call_id=call, tool_name=tool, origin="server"
        )

    def delta(self, index: int, text: str) -> e.BlockDelta:
        return e.BlockDelta(seq=self.next(), index=index, text=text)

    def stop(self, index: int, **more: object) -> e.BlockStop:
        return e.BlockStop(**({"seq": self.next(), "index": index, "state": "complete"} | more))  # type: ignore[arg-type]


def test_text_is_there_with_each_delta() -> None:
    screen = Screen()
    assert screen.see(screen.begin(0, "text"), screen.delta(0, "Hel")) == "Hel"
    assert screen.see(screen.delta(0, "lo")) == "lo"


def test_what_tools_do_waits_for_the_end_of_a_sentence() -> None:
    screen = Screen()
    screen.see(screen.begin(0, "text"), screen.delta(0, "One mo"))
    call = (screen.begin(1, "tool_use", "c"), screen.stop(1, input={"at": "home"}))
    assert screen.see(*call) == ""
    assert screen.see(screen.delta(0, "re word"), screen.delta(0, " comes.")) == "re word comes."
    assert screen.see(screen.delta(0, " Then")) == '\n* look(at="home")\nThen'


def test_many_lines_of_tools_wait_for_the_end_of_a_word_only() -> None:
    screen = Screen()
    screen.see(screen.begin(0, "text"), screen.begin(1, "tool_result", "c"), screen.delta(0, "a long"))
    assert screen.see(screen.delta(1, "1\n2\n3\n4\n")) == ""
    assert screen.see(screen.delta(0, "er sentence")) == "er sentence"
    shown = screen.see(screen.delta(0, " goes on"))
    assert shown == "\n  | look: 1\n  | look: 2\n  | look: 3\n  | look: 4\ngoes on"


def test_what_a_tool_shows_comes_line_by_line_with_the_tools_name() -> None:
    screen = Screen()
    assert screen.see(screen.begin(0, "tool_result", "c"), screen.delta(0, "half")) == ""
    assert screen.see(screen.delta(0, " a line\nnext")) == "  | look: half a line\n"
    assert screen.see(screen.stop(0, outcome="ok", output={"n": 1})) == '  | look: next\n  = look ok: {"n":1}\n'


def test_a_second_call_of_a_tool_has_a_name_of_its_own() -> None:
    screen = Screen()
    for index, call in enumerate("ab"):
        screen.see(screen.begin(index, "tool_use", call), screen.stop(index, input={}))
    error = CallError("tool_error", "no such\nplace")
    shown = screen.see(screen.begin(2, "tool_result", "b"), screen.stop(2, outcome="error", error=error))
    assert shown == "  = look 2 error: no such place\n"


def test_a_rewind_says_what_is_taken_back_and_says_again_where_the_text_goes_on() -> None:
    screen = Screen()
    screen.see(screen.begin(0, "text"), screen.delta(0, "Kept, and lost"), screen.begin(1, "tool_use", "c"))
    rewind = e.Rewind(seq=1_000_001, to=screen.seq, blocks=(e.Standing(0, "open", 5),))
    shown = screen.see(rewind)
    assert "<< taken back, it does not count: text (9 bytes), look\n" in shown
    assert shown.endswith("Kept,")
    screen.seq = 1_000_001
    assert screen.see(screen.delta(0, " and found")) == " and found"
    assert screen.turn.blocks[0].text == "Kept, and found"


def test_a_rewind_that_takes_nothing_back_says_so() -> None:
    screen = Screen()
    screen.see(screen.begin(0, "text"), screen.delta(0, "Kept"))
    shown = screen.see(e.Rewind(seq=1_000_001, to=2, blocks=(e.Standing(0, "open", 4),)))
    assert "nothing is lost" in shown
    assert "taken back" not in shown


def test_no_word_of_a_model_or_a_tool_acts_on_the_terminal() -> None:
    screen = Screen()
    error = CallError("x\x1b[1m", "bad\x1b[2J")
    shown = screen.see(
        screen.begin(0, "text"),
        screen.delta(0, "a\x1b["),
        screen.delta(0, "31mb"),
        screen.begin(1, "tool_use", "c", "na\x07me"),
        screen.stop(1, input={"k\x1b[1m": "v\x9b2J"}),
        screen.begin(2, "tool_result", "c", "na\x07me"),
        screen.delta(2, "\x1b]0;t\x07shown\n"),
        screen.stop(2, outcome="error", error=error),
        screen.stop(0),
        e.Notice(seq=screen.next(), code="c", message="mind\x1b[5m"),
        e.TurnEnd(
            seq=screen.next(),
            status="error",
            stop_reason="error",
            usage=Usage(),
            error=e.ErrorInfo(code="c", message="end\x1bc"),
        ),
    )
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert "ab" in shown


def test_an_end_says_its_reason_and_its_usage() -> None:
    screen = Screen()
    usage = Usage(input_tokens=1234, cache_read_tokens=1000, output_tokens=5, cost_usd=0.0012, source="reported")
    end = e.TurnEnd(seq=1, status="complete", stop_reason="limit_rounds", usage=usage)
    assert screen.see(end) == "[limit_rounds]\n[1,234 tokens in (1,000 cached), 5 out, $0.0012]\n"


def test_what_waits_is_said_and_what_was_answered() -> None:
    screen = Screen()
    screen.see(screen.begin(0, "tool_use", "c"), screen.stop(0, input={"at": "home"}))
    waits = e.CallWaiting(seq=screen.next(), call_id="c", index=0, kind="approval")
    assert screen.see(waits) == "? look waits for a yes or no\n"
    edited = e.CallAnswered(seq=screen.next(), call_id="c", decision="approve", input={"at": "sea"})
    assert screen.see(edited) == '! look: yes, with at="sea"\n'
    asks = e.CallWaiting(seq=screen.next(), call_id="c", index=0, kind="input", message="Which\x1b[1m one?")
    assert screen.see(asks) == "? look asks: Which one?\n"
    assert screen.see(e.CallAnswered(seq=screen.next(), call_id="c", decision="deny")) == "! look: no\n"
    client = e.CallWaiting(seq=screen.next(), call_id="c", index=0, kind="client_tool")
    assert screen.see(client) == "? look waits for its client to run it\n"
    assert screen.see(e.CallAnswered(seq=screen.next(), call_id="c")) == ""


def test_who_goes_on_after_a_wait_is_not_worth_a_line_and_who_does_after_a_crash_is() -> None:
    screen = Screen()
    screen.see(screen.begin(0, "tool_use", "c"), screen.stop(0, input={}), e.TurnWaiting(seq=screen.next()))
    stands = (e.Standing(index=0, state="complete", length=0),)
    assert screen.see(e.Rewind(seq=1_000_001, to=3, blocks=stands)) == ""
    assert "another process" in screen.see(e.Rewind(seq=2_000_001, to=1_000_001, blocks=stands))

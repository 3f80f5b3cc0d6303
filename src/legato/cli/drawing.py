"""A turn drawn as it happens, top to bottom: what has been written stays, so what comes at the same time takes turns.

Text and thinking stream on the open line. What tools do is lines of their own, which wait for the end of a sentence.
The fold says what a block is; this file only remembers what it has shown of it.
"""

from __future__ import annotations

from typing import Final

from msgspec import UnsetType

from legato.cli.brief import arguments_line, result_line, usage_line
from legato.cli.outlet import Kind, Outlet
from legato.cli.untrusted import Cleaner, clean, one_line
from legato.core import events as e
from legato.core.blocks import TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from legato.core.fold import Turn

_ARGUMENTS_MAX: Final = 100
_RESULT_MAX: Final = 120
_MESSAGE_MAX: Final = 500
_SHOWN_MAX: Final = 200
"""Characters of a tool's line that are shown before its line break comes."""
_ASIDE_MAX: Final = 4
"""Lines of tools that wait for the end of a sentence; more of them wait for the end of a word."""
_PAUSES: Final = (".", "!", "?", ":", ";", "\u3002", "\uff01", "\uff1f")
_KEPT_MAX: Final = 200
"""Characters that are said again of a text that was cut and goes on."""


class _Shown:
    """What was shown of one block."""

    __slots__ = ("cleaner", "label", "length", "rest")

    def __init__(self, label: str) -> None:
        self.cleaner = Cleaner()
        self.label = label  # of a call its tool's name, else the block's type
        self.length = 0  # UTF-8 bytes of its text that have come
        self.rest = ""  # of a tool's line that has not ended


class Drawing:
    """Give it each event after it was folded into ``turn``."""

    def __init__(self, outlet: Outlet, turn: Turn) -> None:
        self._outlet = outlet
        self._turn = turn
        self._shown: dict[int, _Shown] = {}
        self._labels: dict[str, str] = {}  # of calls, by their id
        self._front: int | None = None  # the block whose text is on the open line
        self._aside: list[tuple[str, Kind]] = []
        self._rests = False  # whoever goes on with it takes nothing back
        self._pauses = False  # the text on the open line is at the end of a sentence

    def draw(self, event: e.Event) -> None:
        match event:
            case e.BlockStart():
                self._start(event)
            case e.BlockDelta():
                self._delta(event)
            case e.BlockStop():
                self._stop(event)
            case e.RoundStart(attempt=attempt) if attempt > 1:
                self._say(f"asking again, attempt {attempt}", "note")
            case e.RoundStop(commitment="orphaned"):
                self._say("this answer broke off and does not count", "note")
            case e.Notice(message=message):
                self._say(message, "note")
            case e.Steer(text=text, state=state):
                self._say(f"steer {state}: {one_line(text, _SHOWN_MAX)}", "note")
            case e.CallWaiting():
                self._waits(event)
            case e.CallAnswered():
                self._told(event)
            case e.TurnWaiting():
                self._rests = True
                self._say("the turn waits; Ctrl-C cancels it", "note")
            case e.Rewind():
                self._rewind(event)
            case e.TurnEnd():
                self._end(event)
            case _:
                pass

    def _start(self, event: e.BlockStart) -> None:
        label: str = event.block_type
        if not isinstance(event.call_id, UnsetType) and not isinstance(event.tool_name, UnsetType):
            if event.call_id not in self._labels:
                # Two calls of one tool run at once: the second is named so that its lines can be told apart.
                earlier = sum(label.partition(" ")[0] == event.tool_name for label in self._labels.values())
                number = f" {earlier + 1}" if earlier else ""
                self._labels[event.call_id] = clean(event.tool_name) + number
            label = self._labels[event.call_id]
        self._shown[event.index] = _Shown(label)

    def _delta(self, event: e.BlockDelta) -> None:
        shown, start = self._shown.get(event.index), self._turn.starts.get(event.index)
        if shown is None or start is None:
            return
        shown.length += len(event.text.encode())
        match start.block_type:
            case "text" | "thinking":
                text = shown.cleaner.feed(event.text)
                self._stream(event.index, text, "answer" if start.block_type == "text" else "thinking")
            case "tool_result":
                self._emitted(shown, shown.cleaner.feed(event.text))
            case _:
                pass

    def _stream(self, index: int, text: str, kind: Kind) -> None:
        if not text:
            return
        if self._front != index:
            self._flush()
            if self._front is not None:
                self._outlet.gap(kind)
            self._front = index
        elif self._aside and text[0].isspace() and (self._pauses or len(self._aside) >= _ASIDE_MAX):
            # Between two sentences the tools' lines come in, and the text goes on below them.
            self._flush()
            if not self._outlet.is_open(kind):
                text = text.lstrip(" ")
        self._outlet.write(text, kind)
        self._pauses = text.rstrip().endswith(_PAUSES)

    def _emitted(self, shown: _Shown, text: str) -> None:
        *whole, shown.rest = (shown.rest + text).split("\n")
        if len(shown.rest) > _SHOWN_MAX:
            whole.append(shown.rest)
            shown.rest = ""
        for line in whole:
            self._put_aside(f"  | {shown.label}: {line.rstrip()}", "shown")

    def _stop(self, event: e.BlockStop) -> None:
        shown, block = self._shown.get(event.index), self._turn.closed.get(event.index)
        if shown is None or block is None:
            return
        match block:
            case ToolUseBlock():
                self._called(block, shown)
            case ToolResultBlock():
                self._answered(block, shown)
            case TextBlock() | ThinkingBlock():
                if block.state == "partial" and block.text:
                    self._stream(event.index, " [cut]", "note")
            case _:
                self._say(f"[{shown.label}]", "note")
        if self._front == event.index:
            self._outlet.fresh()
        if self._front in {None, event.index} or self._front not in self._turn.open:
            self._flush()

    def _called(self, block: ToolUseBlock, shown: _Shown) -> None:
        arguments = arguments_line(block.input if block.input is not None else block.text, _ARGUMENTS_MAX)
        cut = " [cut: it is not run]" if block.state == "partial" else ""
        self._put_aside(f"* {shown.label}({arguments}){cut}", "call")

    def _answered(self, block: ToolResultBlock, shown: _Shown) -> None:
        if shown.rest:
            self._put_aside(f"  | {shown.label}: {shown.rest}", "shown")
        if isinstance(block.error, UnsetType):
            said = result_line(block.output, _RESULT_MAX) if block.output is not None else ""
        else:
            said = one_line(block.error.message, _RESULT_MAX)
        outcome = clean(block.outcome or block.state)
        self._put_aside(f"  = {shown.label} {outcome}: {said}".rstrip(": "), "good" if outcome == "ok" else "error")

    def _waits(self, event: e.CallWaiting) -> None:
        label = self._label(event.call_id)
        match event.kind:
            case "approval":
                self._say(f"? {label} waits for a yes or no", "call")
            case "client_tool":
                self._say(f"? {label} waits for its client to run it", "call")
            case _:
                message = "" if isinstance(event.message, UnsetType) else one_line(event.message, _MESSAGE_MAX)
                self._say(f"? {label} asks: {message}", "call")

    def _told(self, event: e.CallAnswered) -> None:
        """A client's answer is the call's result, which is drawn anyway."""
        if isinstance(event.decision, UnsetType):
            return
        label = self._label(event.call_id)
        if isinstance(event.input, UnsetType):
            self._say(f"! {label}: {'yes' if event.decision == 'approve' else 'no'}", "call")
        else:
            self._say(f"! {label}: yes, with {arguments_line(event.input, _ARGUMENTS_MAX)}", "call")

    def _label(self, call_id: str) -> str:
        return self._labels.get(call_id, clean(call_id))

    def _put_aside(self, line: str, kind: Kind) -> None:
        self._aside.append((line, kind))
        if self._front is None or self._front not in self._turn.open:
            self._flush()

    def _flush(self) -> None:
        """The lines that waited, now."""
        for line, kind in self._aside:
            self._outlet.line(line, kind)
        self._aside.clear()

    def _say(self, sentence: str, kind: Kind) -> None:
        self._flush()
        self._outlet.line(clean(sentence), kind)

    def _rewind(self, event: e.Rewind) -> None:
        """Say what is taken back; what still grows is said again from a little before where it was cut."""
        stand = {one.index: one for one in event.blocks}
        lost = [
            f"{shown.label} ({shown.length - kept} bytes)" if kept else shown.label
            for index, shown in self._shown.items()
            if (kept := stand[index].length if index in stand else 0) < shown.length or index not in stand
        ]
        self._flush()
        if lost:
            self._say(f"<< taken back, it does not count: {', '.join(lost)}", "error")
        elif not self._rests:
            self._say("<< another process goes on with this turn; nothing is lost", "note")
        self._rests = False
        self._shown = {index: shown for index, shown in self._shown.items() if index in stand}
        for index, shown in self._shown.items():
            shown.length = stand[index].length
            shown.cleaner, shown.rest = Cleaner(), ""
        self._front = None
        if lost:
            self._say_again()

    def _say_again(self) -> None:
        for index, block in self._turn.open.items():
            if block.start.block_type in {"text", "thinking"} and block.text:
                kept = block.text if len(block.text) <= _KEPT_MAX else "…" + block.text[-_KEPT_MAX:]
                self._stream(index, clean(kept), "answer" if block.start.block_type == "text" else "thinking")

    def _end(self, event: e.TurnEnd) -> None:
        self._flush()
        self._outlet.fresh()
        if not isinstance(event.error, UnsetType):
            self._say(f"error: {event.error.message} ({event.error.code})", "error")
        elif event.stop_reason != "end":
            self._say(f"[{event.stop_reason}]", "note")
        self._say(f"[{usage_line(event.usage)}]", "note")

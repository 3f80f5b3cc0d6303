"""The calls of one chat completions response, put together from their pieces.

A piece belongs to a call by its ``index``, where the vendor counts; others send none, or always 0, with ids that are
empty, repeated or late, and with names in pieces, repeated, or last. A call is said to the machine when its whole name
and the first of its arguments are there, and sealed by the provider's ``seal``. Linear in the bytes received.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from legato.core.blocks import Json
from legato.core.inputs import BlockClosed, BlockOpened, CallPoisoned, Delta, ProviderInput
from legato.providers.objects import ObjectScanner
from legato.providers.openai_chat_vendors import Seal

_COMPARED_MAX = 1024 * 1024
"""Characters of arguments that are kept to tell a repetition from a change; longer ones are not compared."""
_PLAIN_KEY = re.compile(r'\s*\{\s*"[A-Za-z0-9_]')


class Piece(msgspec.Struct):
    """``None`` is said of what is not there at all; vendors mean something else by an empty string. ``extras`` are the
    fields we have no name for."""

    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    extras: dict[str, Json] = {}


class _Call:
    __slots__ = (
        "_parts",
        "_text",
        "cumulative",
        "extras",
        "id",
        "key",
        "length",
        "name",
        "poisoned",
        "scanner",
        "sealed",
        "unsaid",
    )

    def __init__(self) -> None:
        self.key: int | None = None
        self.id = ""
        self.name = ""
        self.scanner = ObjectScanner()
        self.unsaid: list[str] = []
        self.length = 0
        self.extras: dict[str, Json] = {}
        self.cumulative = False
        self.sealed = False
        self.poisoned = ""
        self._parts: list[str] = []
        self._text = ""

    def append(self, text: str) -> None:
        if self.length + len(text) <= _COMPARED_MAX:
            self._parts.append(text)
        else:
            self._parts.clear()
            self._text = ""
        self.unsaid.append(text)
        self.length += len(text)
        self.scanner.feed(text)

    def equals(self, text: str) -> bool:
        return len(text) == self.length <= _COMPARED_MAX and text == self._arguments()

    def grown_in(self, text: str) -> bool:
        """Whether ``text`` begins with all that came before it, where it cannot be what comes next.

        Where a key has to come, a brace cannot. Within a string the quote of the beginning would end it, and the first
        letter of the first key cannot follow a string. Anywhere else it may be an object within the object.
        """
        if not self.length <= len(text) <= _COMPARED_MAX or not self.scanner.begun or self.scanner.complete:
            return False
        if not self.scanner.expects_key and not self.scanner.in_string:
            return False
        said = self._arguments()
        return text.startswith(said) and (self.scanner.expects_key or _PLAIN_KEY.match(said) is not None)

    def _arguments(self) -> str:
        if self._parts:
            self._text += "".join(self._parts)
            self._parts.clear()
        return self._text


class Calls:
    """``next_key`` numbers the blocks of the response; ``provider_data`` wraps what is kept of a call."""

    def __init__(
        self, seal: Seal, next_key: Callable[[], int], keep: Callable[[dict[str, Json]], dict[str, Json]]
    ) -> None:
        self._seal = seal
        self._next_key = next_key
        self._keep = keep
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._counts = False

    @property
    def sealed(self) -> bool:
        """Whether any call is."""
        return any(call.sealed for call in self._calls)

    def feed(self, piece: Piece, out: list[ProviderInput]) -> None:
        call = self._of(piece, out)
        if piece.id:
            call.id = call.id or piece.id
            self._by_id.setdefault(piece.id, call)
        call.extras.update(piece.extras)
        self._name(call, piece.name or "", out)
        if piece.arguments:
            self._argue(call, piece.arguments, out)
        self._say(call, out)
        if self._seal == "object" and call.scanner.complete and call.key is not None:
            self._close(call, out)

    def finish(self, how: Literal["well", "cut", "refused"], out: list[ProviderInput]) -> None:
        """At the finish reason: all calls are whole where the response ended well; where it was cut, those whose object
        has closed; where it was refused, none."""
        for call in self._calls:
            if call.sealed or how == "refused":
                continue
            # A call that was never named is answered as one of an unknown tool; one without anything never was a call.
            if call.scanner.complete or (how == "well" and (call.name or call.scanner.begun)):
                self._open(call, out)
                self._close(call, out)

    def _of(self, piece: Piece, out: list[ProviderInput]) -> _Call:
        """The call the piece belongs to, perhaps a new one."""
        if piece.index is not None:
            self._counts = self._counts or piece.index > 0
            call = self._by_index.get(piece.index)
        elif piece.id and (known := self._by_id.get(piece.id)) is not None:
            call = known
        else:
            call = self._calls[-1] if self._calls else None
        if call is None or self._is_another(call, piece):
            call = _Call()
            self._calls.append(call)
            if self._seal == "next":
                self._close_whole(out)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id and self._by_id.get(piece.id) is not call and call.key is None:
            self._by_id[piece.id] = call
        return call

    def _is_another(self, call: _Call, piece: Piece) -> bool:
        """Whether a piece begins a new call though the vendor's index, or the lack of one, points to ``call``."""
        whole = call.scanner.complete
        if piece.id and call.id and piece.id != call.id:
            return bool(piece.name) or whole
        if self._counts or not whole:
            return False
        if piece.name == call.name and (not piece.arguments or call.equals(piece.arguments)):
            return piece.id is not None and not piece.arguments
        announced = piece.id is not None and piece.name is not None
        return announced or bool(piece.name and piece.arguments)

    def _name(self, call: _Call, name: str, out: list[ProviderInput]) -> None:
        if not name or name == call.name:
            return
        if call.key is not None:
            self._poison(call, f"the name changed from {call.name!r} to {name!r}", out)
        elif call.name and not name.startswith(call.name):
            call.name += name
        else:
            call.name = name

    def _argue(self, call: _Call, text: str, out: list[ProviderInput]) -> None:
        if call.cumulative or call.grown_in(text):
            call.cumulative = True
            text = text[call.length :]
        if not call.scanner.complete:
            call.append(text)
        elif call.equals(text) or not text or text.isspace():
            return  # the whole once more, or white space: nothing changed
        elif call.sealed:
            self._poison(call, f"after its end its arguments went on with {text[:80]!r}", out)
        else:
            call.append(text)

    def _say(self, call: _Call, out: list[ProviderInput]) -> None:
        if call.key is None and not (call.name and call.scanner.begun):
            return
        self._open(call, out)
        if call.unsaid and not call.sealed:
            assert call.key is not None
            out.append(Delta(call.key, "".join(call.unsaid)))
            call.unsaid.clear()

    def _open(self, call: _Call, out: list[ProviderInput]) -> None:
        if call.key is None:
            call.key = self._next_key()
            out.append(BlockOpened(key=call.key, block_type="tool_use", tool_name=call.name, provider_call_id=call.id))

    def _close_whole(self, out: list[ProviderInput]) -> None:
        for call in self._calls:
            if call.scanner.complete and call.key is not None:
                self._close(call, out)

    def _close(self, call: _Call, out: list[ProviderInput]) -> None:
        if call.sealed:
            return
        assert call.key is not None
        self._say(call, out)
        call.sealed = True
        kept = {"id": call.id, **call.extras} if call.id else call.extras
        out.append(BlockClosed(key=call.key, provider_data=self._keep(kept)))
        if call.poisoned:
            out.append(CallPoisoned(key=call.key, message=call.poisoned))

    def _poison(self, call: _Call, message: str, out: list[ProviderInput]) -> None:
        if call.sealed and call.key is not None and not call.poisoned:
            out.append(CallPoisoned(key=call.key, message=message))
        call.poisoned = call.poisoned or message

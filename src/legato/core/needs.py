"""What a call waits for: said to readers, and stored so that it can be answered, by whoever owns the turn then."""

from __future__ import annotations

from msgspec import UNSET

from legato.core import actions as a
from legato.core import events as e
from legato.core.blocks import Json
from legato.core.call import Call
from legato.core.records import Answer, KeptNeed, Need
from legato.core.scribe import Scribe
from legato.core.text import clean


class Needs:
    def __init__(self, scribe: Scribe) -> None:
        self._scribe = scribe

    def ask(
        self,
        call: Call,
        kind: e.NeedKind,
        *,
        message: str | None = None,
        input_schema: dict[str, Json] | None = None,
        state: Json = None,
        running: bool = False,
    ) -> None:
        call.asked += 1
        message = None if message is None else clean(message)
        call.need = need = Need(
            call_id=call.call_id,
            nr=call.asked,
            kind=kind,
            input_sha256=call.sha256,
            message=message,
            input_schema=input_schema,
            state=state,
            running=running,
        )
        self._say_waiting(call, need)
        self._scribe.do(a.StoreNeed(need))

    def take(self, call: Call, answer: Answer) -> None:
        """The call waits no more."""
        need, call.need = call.need, None
        assert need is not None
        self._say_answered(need, answer)
        self._scribe.do(a.TakeAnswer(call_id=call.call_id, nr=need.nr))

    def close(self, need: Need) -> None:
        """Nobody answers it any more: its call has a result, or runs from its beginning."""
        self._scribe.do(a.TakeAnswer(call_id=need.call_id, nr=need.nr))

    def take_down(self, call: Call) -> None:
        """Let readers see that the call waits no more, though it has neither an answer nor a result."""
        if call.call_id in self._scribe.turn.waiting:
            self._scribe.say(e.CallAnswered(seq=self._scribe.next_seq(), call_id=call.call_id))

    def say_again(self, call: Call, newest: KeptNeed) -> None:
        """Let readers see what is waited for, where a rewind took that back, or an earlier owner what was answered."""
        shown = call.call_id in self._scribe.turn.waiting
        if call.need is not None and not shown:
            self._say_waiting(call, call.need)
        elif call.need is None and shown:
            self._say_answered(newest.need, newest.answer if newest.taken else None)

    def _say_waiting(self, call: Call, need: Need) -> None:
        self._scribe.say(
            e.CallWaiting(
                seq=self._scribe.next_seq(),
                call_id=call.call_id,
                index=call.index,
                kind=need.kind,
                nr=UNSET if need.nr == 1 else need.nr,
                message=UNSET if need.message is None else need.message,
                input_schema=UNSET if need.input_schema is None else need.input_schema,
            )
        )

    def _say_answered(self, need: Need, answer: Answer | None) -> None:
        """What a person told a tool is the tool's; approved arguments are everybody's."""
        self._scribe.say(
            e.CallAnswered(
                seq=self._scribe.next_seq(),
                call_id=need.call_id,
                decision=UNSET if answer is None else answer.decision,
                input=UNSET if answer is None or need.kind != "approval" else answer.input,
            )
        )

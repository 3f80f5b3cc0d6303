"""What a call waits for: said to readers, and stored so that it can be answered, by whoever owns the turn then."""

from __future__ import annotations

from msgspec import UNSET

from legato.core import actions as a
from legato.core import events as e
from legato.core.blocks import Json
from legato.core.call import Call
from legato.core.records import Answer, Need
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
        call.need = Need(
            call_id=call.call_id,
            nr=call.asked,
            kind=kind,
            input_sha256=call.sha256,
            message=message,
            input_schema=input_schema,
            state=state,
            running=running,
        )
        self._scribe.say(
            e.CallWaiting(
                seq=self._scribe.next_seq(),
                call_id=call.call_id,
                index=call.index,
                kind=kind,
                message=UNSET if message is None else message,
                input_schema=UNSET if input_schema is None else input_schema,
            )
        )
        self._scribe.do(a.StoreNeed(call.need))

    def take(self, call: Call, answer: Answer) -> None:
        """The call waits no more. What a person told a tool is the tool's; approved arguments are everybody's."""
        need, call.need = call.need, None
        assert need is not None
        self._scribe.say(
            e.CallAnswered(
                seq=self._scribe.next_seq(),
                call_id=call.call_id,
                decision=answer.decision,
                input=answer.input if need.kind == "approval" else UNSET,
            )
        )
        self._scribe.do(a.TakeAnswer(call_id=call.call_id, nr=need.nr))

"""What people and clients say to the calls that wait for them: checked against what was asked, before it is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TypeAlias

import anyio
import msgspec
from msgspec import UNSET, UnsetType

from legato.core.blocks import CallError, Json, ToolUseBlock
from legato.core.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from legato.core.events import NeedKind
from legato.core.posts import PostApproval, PostToolResults
from legato.core.records import Answer, KeptNeed, Need
from legato.core.shapes import misfit
from legato.core.text import clean
from legato.ports import Store, Tools
from legato.runtime.calls.outputs import cleaned
from legato.runtime.runner import TurnRunner

_Needs: TypeAlias = Mapping[str, Sequence[KeptNeed]]
"""By call, what it has asked, the oldest first."""

OUTPUT_BYTES = 1_048_576
"""Of a client's result as JSON: it is kept in the log as it is. A client that has more keeps it, and gives a part."""

ELSEWHERE_SECONDS = 1.0
"""For what another process has just said and stores within ``flush_interval``, 250 ms."""
LOOK_SECONDS = 0.05


class Answering:
    """``persist_timeout`` is seconds: how long a need that was just said may take to be stored. ``drained`` says
    whether nothing lies in the spool, where a need counts as stored too."""

    def __init__(
        self, store: Store, tools: Tools, *, drained: Callable[[], Awaitable[bool]], persist_timeout: float
    ) -> None:
        self._store = store
        self._tools = tools
        self._drained = drained
        self._persist_timeout = persist_timeout

    async def results(self, turn_id: str, post: PostToolResults, runner: TurnRunner | None) -> Sequence[Answer]:
        """Keep the results of a client's tools. Raises ``RequestError``, ``StoreError``; then nothing is kept."""
        needs = await self._needs(turn_id, {result.call_id for result in post.results}, runner)
        answers = []
        for place, result in enumerate(post.results):
            path = f"/results/{place}"
            if any(result.call_id == other.call_id for other in post.results[:place]):
                raise InvalidRequest.at(f"{path}/call_id", f"{result.call_id} is answered twice in this request")
            kept = _of_kind(needs, result.call_id, turn_id, ("client_tool",), f"{path}/call_id")[-1]
            if (result.output is UNSET) == (result.error is UNSET):
                raise InvalidRequest.at(path, "needs either output or error")
            answers.append(
                Answer(
                    call_id=result.call_id,
                    nr=kept.need.nr,
                    output=UNSET if result.output is UNSET else _bounded(result.output, f"{path}/output"),
                    error=UNSET
                    if isinstance(result.error, UnsetType)
                    else CallError("client_error", clean(result.error)),
                )
            )
        await self._store.answer(turn_id, answers)
        return answers

    async def approval(self, turn_id: str, post: PostApproval, runner: TurnRunner | None) -> Sequence[Answer]:
        """Keep a decision, likewise."""
        needs = await self._needs(turn_id, {post.call_id}, runner)
        asked = _of_kind(needs, post.call_id, turn_id, ("approval", "input"), "/call_id")
        answer = Answer(
            call_id=post.call_id,
            decision=post.decision,
            input=post.input if isinstance(post.input, UnsetType) else _bounded(post.input, "/input"),
            reason=post.reason if isinstance(post.reason, UnsetType) else clean(post.reason),
        )
        kept = _meant(asked, post, answer)
        if kept.need.kind == "approval":
            await self._check(turn_id, post, runner)
        elif post.decision == "approve" and kept.answer is None:
            _check_answer(post, kept.need)
        if kept.need.running and runner is None and kept.answer is None:
            raise Conflict(
                f"call {post.call_id} does not wait any more: its server stopped while it asked",
                code="call_not_waiting",
                turn_id=turn_id,
            )
        answer = msgspec.structs.replace(answer, nr=kept.need.nr)
        await self._store.answer(turn_id, [answer])
        return [answer]

    async def _needs(self, turn_id: str, calls: AbstractSet[str], runner: TurnRunner | None) -> _Needs:
        """One that was just said is stored first: it can be answered then."""
        if runner is not None and not runner.machine.ended:
            with anyio.move_on_after(self._persist_timeout) as scope:
                await runner.kept()
            if scope.cancelled_caught:
                seconds = self._persist_timeout
                raise StoreUnavailable(f"the store did not answer in {seconds:g} s; repeat the request")
        needs = await self._stored_needs(turn_id)
        with anyio.move_on_after(ELSEWHERE_SECONDS):
            while runner is None and not calls <= needs.keys() and await self._runs(turn_id):
                await anyio.sleep(LOOK_SECONDS)
                needs = await self._stored_needs(turn_id)
        if not calls <= needs.keys():
            await self._unspool()
            needs = await self._stored_needs(turn_id)
        return needs

    async def _unspool(self) -> None:
        """What the store did not take may have the need: nobody is told that there is none before it is there."""
        with anyio.move_on_after(self._persist_timeout):
            if await self._drained():
                return
        raise StoreUnavailable("the store has yet to take what lies in the spool; repeat the request")

    async def _stored_needs(self, turn_id: str) -> _Needs:
        needs: dict[str, list[KeptNeed]] = {}
        for kept in await self._store.needs(turn_id):
            needs.setdefault(kept.need.call_id, []).append(kept)
        return needs

    async def _runs(self, turn_id: str) -> bool:
        row = await self._store.turn(turn_id)
        return row is not None and row.status in ("running", "recovering")

    async def _check(self, turn_id: str, post: PostApproval, runner: TurnRunner | None) -> None:
        """Arguments in the model's place are held to what the tool takes."""
        if isinstance(post.input, UnsetType):
            return
        if post.decision == "deny":
            raise InvalidRequest.at("/input", "goes with approve; say why not in reason")
        name = await self._tool_name(turn_id, post.call_id, runner)
        tool = None if name is None else self._tools.get(name)
        if tool is None:
            return  # the tool is gone; the machine answers the call with that
        wrong = await anyio.to_thread.run_sync(partial(tool.check, post.input))
        if wrong is not None:
            raise InvalidRequest.at("/input", wrong)

    async def _tool_name(self, turn_id: str, call_id: str, runner: TurnRunner | None) -> str | None:
        stored = await self._store.load(turn_id) if runner is None else runner.stored()
        for block in () if stored is None else stored.blocks:
            if isinstance(block, ToolUseBlock) and block.call_id == call_id:
                return block.tool_name
        return None


def _of_kind(needs: _Needs, call_id: str, turn_id: str, kinds: tuple[NeedKind, ...], path: str) -> Sequence[KeptNeed]:
    """All of the call, the newest of one of these kinds."""
    asked = needs.get(call_id)
    if asked is None:
        raise NotFound(f"no call {call_id} of turn {turn_id} waits for anybody", code="unknown_call")
    newest = asked[-1].need
    if newest.kind not in kinds:
        where = "tool_results" if newest.kind == "client_tool" else "approvals"
        raise InvalidRequest.at(path, f"{call_id} waits for {_WORDS[newest.kind]}: post that to {where}")
    return asked


def _check_answer(post: PostApproval, need: Need) -> None:
    """What its tool cannot read would be the call's end, and nobody could answer better."""
    given = {} if isinstance(post.input, UnsetType) else post.input
    wrong = None if need.input_schema is None else misfit(given, need.input_schema)
    if wrong is not None:
        raise InvalidRequest.at("/input", wrong)


def _meant(asked: Sequence[KeptNeed], post: PostApproval, answer: Answer) -> KeptNeed:
    """Which question is answered. The very answer to an earlier one is its repeat, whose sender may not have seen the
    next: who says the same to that one says its ``nr``."""
    if isinstance(post.nr, UnsetType):
        newest = asked[-1]
        said_before = [kept for kept in asked if kept.answer == answer]
        return said_before[-1] if said_before and newest.answer is None else newest
    for kept in asked:
        if kept.need.nr == post.nr:
            return kept
    raise InvalidRequest.at("/nr", f"is {post.nr}, call {post.call_id} has asked {len(asked)} times")


_WORDS: Mapping[NeedKind, str] = {
    "client_tool": "the result of a client's tool",
    "approval": "a yes or no",
    "input": "an answer",
}


def _bounded(value: Json, path: str) -> Json:
    size = len(msgspec.json.encode(value))
    if size > OUTPUT_BYTES:
        message = f"has {size} bytes as JSON, limit is {OUTPUT_BYTES}"
        raise InvalidRequest.at(path, message, limit=OUTPUT_BYTES, actual=size)
    return cleaned(value)

"""What becomes of a POST whose chat is busy: it waits for its turn, goes into the one that runs, or takes its place."""

from __future__ import annotations

from legato.core import inputs as i
from legato.core.errors import Conflict, InvalidRequest, Overloaded
from legato.core.posts import OnBusy, PostedText, PostSteer, PostTurn
from legato.core.records import Chat, QueueFull
from legato.ports import Store
from legato.runtime.clients.steering import Steering
from legato.runtime.running import Running


class Queueing:
    def __init__(self, store: Store, running: Running, steering: Steering, *, limit: int) -> None:
        self._store = store
        self._running = running
        self._steering = steering
        self._limit = limit

    def queued(self, turn_id: str, chat_id: str, active: str, on_busy: OnBusy) -> None:
        """The turn is stored. It begins when the active one has ended, which is told to stop where that was asked; a
        cancel of it is stored by then, for another process that runs it."""
        self._running.await_chat(turn_id, chat_id)
        if on_busy in ("interrupt", "replace"):
            runner = self._running.get(active)
            if runner is not None:
                runner.receive(i.CancelRequested(drops=on_busy == "replace"))
            self._running.cancel_soon(active)
        if self._running.get(active) is None:  # it may have ended meanwhile
            self._running.take_up_soon(turn_id)

    def refuse(self, chat_id: str, full: QueueFull) -> Overloaded:
        message = f"chat {chat_id} has {full.queued} queued turns, limit is {self._limit}"
        return Overloaded(message, code="queue_full", retry_after=1, limit=self._limit, actual=full.queued)

    async def steer_into(self, active: str, post: PostTurn) -> bool:
        """Say the post's text into the active turn; False if that has ended meanwhile. A repeat has its ``turn_id``."""
        try:
            await self._steering.steer(active, PostSteer(text=_text_of(post), steer_id=post.turn_id))
        except Conflict as conflict:
            if conflict.code == "turn_ended":
                return False
            if conflict.code == "steer_id_reused":
                raise _reused(post, active) from conflict
            raise
        return True

    async def steered_before(self, post: PostTurn, principal: str) -> str | None:
        """The turn that this very post was said into."""
        if post.on_busy != "steer" or not isinstance(post.turn_id, str) or not isinstance(post.chat_id, str):
            return None
        chat: Chat | None = await self._store.chat(post.chat_id)
        found = None if chat is None or chat.owner != principal else await self._store.find_steer(chat.id, post.turn_id)
        if found is None:
            return None
        turn_id, steer = found
        if steer.text != self._steering.read(PostSteer(text=_text_of(post), steer_id=post.turn_id)).text:
            raise _reused(post, turn_id)
        return turn_id


def _reused(post: PostTurn, turn_id: str) -> Conflict:
    message = f"{post.turn_id} was said into turn {turn_id} by another request: choose a new turn_id"
    return Conflict(message, code="turn_id_reused", turn_id=turn_id)


def _text_of(post: PostTurn) -> str:
    if isinstance(post.input, str):
        return post.input
    texts = []
    for place, block in enumerate(post.blocks if isinstance(post.blocks, tuple) else ()):
        if not isinstance(block, PostedText):
            raise InvalidRequest.at(f"/blocks/{place}", "is no text, and only text can be said into a running turn")
        texts.append(block.text)
    if not texts:
        raise InvalidRequest.at("/blocks", "is missing: say something in blocks or in input")
    return "\n\n".join(texts)

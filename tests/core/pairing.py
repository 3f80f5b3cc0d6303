"""The rules by which providers refuse a history (hazard 1): what a request may not look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UNSET

from legato.core import ask
from legato.core.messages import first_difference


def violations(messages: Sequence[ask.Message]) -> list[str]:
    """What a provider would answer 400 for; nothing, for a history that every wire takes."""
    return [*_shape(messages), *_blocks(messages), *_own_calls(messages), *_provider_calls(messages)]


def flat(messages: Sequence[ask.Message]) -> list[tuple[str, ask.SentBlock]]:
    """Blocks with their role, for comparing requests: neighbours of one role are one message."""
    return [(message.role, block) for message in messages for block in message.blocks]


def _shape(messages: Sequence[ask.Message]) -> Iterator[str]:
    if messages and messages[0].role != "user":
        yield "the first message is not the user's"
    for place, message in enumerate(messages):
        if not message.blocks:
            yield f"message {place} is empty"
        if place and messages[place - 1].role == message.role:
            yield f"messages {place - 1} and {place} are both {message.role}"


def _blocks(messages: Sequence[ask.Message]) -> Iterator[str]:
    for place, message in enumerate(messages):
        is_last = place == len(messages) - 1
        for block in message.blocks:
            match block:
                case ask.SentText(text=text) if not text.strip():
                    yield f"message {place} has empty text"
                case ask.SentThinking(signature=signature, redacted=redacted, provider_data=provider_data):
                    if signature is UNSET and redacted is UNSET and provider_data is UNSET:
                        yield f"message {place} has unsigned thinking"
                case _:
                    pass
        if message.role == "assistant" and not is_last and isinstance(message.blocks[-1], ask.SentThinking):
            yield f"message {place} ends in thinking"


def _own_calls(messages: Sequence[ask.Message]) -> Iterator[str]:
    """Each call of ours is answered once, in the very next message, results first and in call order."""
    asked: list[str] = []
    seen: set[str] = set()
    for place, message in enumerate(messages):
        answers = [
            block.call_id
            for block in message.blocks
            if isinstance(block, ask.SentToolResult) and block.origin != "provider"
        ]
        if answers != asked:
            yield f"message {place} answers {answers}, the calls before it are {asked}"
        first = [isinstance(block, ask.SentToolResult) for block in message.blocks[: len(answers)]]
        if message.role == "user" and not all(first):
            yield f"message {place} has something before its results"
        asked = [
            block.call_id
            for block in message.blocks
            if isinstance(block, ask.SentToolUse) and block.origin != "provider"
        ]
        if asked and message.role != "assistant":
            yield f"message {place} is the user's and has calls"
        if seen & set(asked) or len(set(asked)) < len(asked):
            yield f"message {place} repeats a call id"
        seen |= set(asked)
    if asked:
        yield f"the last message leaves {asked} without an answer"


def _provider_calls(messages: Sequence[ask.Message]) -> Iterator[str]:
    """A provider's own call is answered within its message, save in a last one that it will go on with."""
    for place, message in enumerate(messages):
        open_calls: list[str] = []
        for block in message.blocks:
            if isinstance(block, ask.SentToolUse) and block.origin == "provider":
                open_calls.append(block.call_id)
            elif isinstance(block, ask.SentToolResult) and block.origin == "provider":
                if block.call_id not in open_calls:
                    yield f"message {place} has a provider's result without its call"
                else:
                    open_calls.remove(block.call_id)
        if open_calls and place < len(messages) - 1:
            yield f"message {place} has a provider's call without its result"


def grew(earlier: Sequence[ask.Message], later: Sequence[ask.Message]) -> bool:
    """The later request begins with the earlier one. If that asked a paused reply to go on, and nothing came of it, the
    reply ends there: then with what a vendor takes of it, no call that it did not answer and no thinking at its end."""
    return first_difference(earlier, later) is None or first_difference(_without_open_end(earlier), later) is None


def _without_open_end(sent: Sequence[ask.Message]) -> tuple[ask.Message, ...]:
    if not sent or sent[-1].role != "assistant":
        return tuple(sent)
    answered = {block.call_id for block in sent[-1].blocks if isinstance(block, ask.SentToolResult)}
    blocks = [
        block
        for block in sent[-1].blocks
        if not (isinstance(block, ask.SentToolUse) and block.origin == "provider" and block.call_id not in answered)
    ]
    while blocks and isinstance(blocks[-1], ask.SentThinking):
        blocks.pop()
    return (*sent[:-1], ask.Message("assistant", tuple(blocks)))

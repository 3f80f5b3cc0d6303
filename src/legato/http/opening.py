"""A ring that looks at the beginning of an answer and at nothing else of it.

A stream is a beginning and then thousands of frames: ``beyond`` lets the frames go past all such rings.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Message, Send


class Opening:
    """An ASGI ``send`` that shows ``look`` the message that begins the answer, and passes on everything."""

    __slots__ = ("_look", "inner")

    def __init__(self, inner: Send, look: Callable[[Message], None]) -> None:
        self.inner = inner
        self._look = look

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._look(message)
        await self.inner(message)


def beyond(send: Send) -> Send:
    """The ``send`` of what follows the beginning, once that has been sent."""
    while isinstance(send, Opening):
        send = send.inner
    return send

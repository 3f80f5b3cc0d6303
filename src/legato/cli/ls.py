"""`legato ls`: the chats, or the turns of one."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import Final

import msgspec

from legato.cli.api import Api, chat_path, connected
from legato.cli.seen import SeenChat, SeenTree, SeenTurns
from legato.cli.tree import Tree
from legato.cli.untrusted import clean, one_line

_PAGE: Final = 200
"""The most that the API gives at once."""
_BRANCHES: Final = 8
"""Branches whose turns' first words are fetched; the turns of others are listed without."""
_WORDS: Final = 40
_PIPED_WIDTH: Final = 10_000
"""Columns where nobody's terminal bounds them."""


def run(url: str, chat_id: str | None, *, limit: int, as_json: bool) -> int:
    return asyncio.run(_list(url, chat_id, limit=limit, as_json=as_json))


async def _list(url: str, chat_id: str | None, *, limit: int, as_json: bool) -> int:
    async with connected(url) as api:
        if chat_id is None:
            await _list_chats(api, limit=limit, as_json=as_json)
        else:
            await _list_turns(api, chat_id, as_json=as_json)
    return 0


async def _list_chats(api: Api, *, limit: int, as_json: bool) -> None:
    raw: list[msgspec.Raw] = []
    before: str | None = None
    while True:
        path = f"/v1/chats?limit={min(_PAGE, limit - len(raw))}" + (f"&before={before}" if before else "")
        page = await api.get(path, _RawPage)
        raw += page.data
        before = page.next
        if before is None or len(raw) >= limit:
            break
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode({"data": raw, "next": before}) + b"\n")
        return
    chats = [msgspec.json.decode(one, type=SeenChat) for one in raw]
    if not chats:
        sys.stderr.write("legato ls: no chats\n")
    for line in _chat_lines(chats):
        sys.stdout.write(line + "\n")
    if before is not None:
        sys.stderr.write(f"legato ls: there are more than {limit}; --limit says how many\n")


class _RawPage(msgspec.Struct):
    data: list[msgspec.Raw]
    next: str | None = None


def _chat_lines(chats: list[SeenChat]) -> list[str]:
    rows = [(one.id, clean(one.model or "-"), "busy" if one.active_turn_id else "-", one.updated_at) for one in chats]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH
    room = max(20, columns - sum(widths) - 2 * len(widths))
    return [
        clean("  ".join(f"{value:{width}}" for value, width in zip(row, widths, strict=True)))
        + f"  {one_line(chat.title, room)}"
        for row, chat in zip(rows, chats, strict=True)
    ]


async def _list_turns(api: Api, chat_id: str, *, as_json: bool) -> None:
    chat = await api.get(chat_path(chat_id), SeenChat)
    body = await api.get_bytes(f"{chat_path(chat_id)}/turns?tree=1")
    if as_json:
        sys.stdout.buffer.write(body + b"\n")
        return
    tree = Tree(msgspec.json.decode(body, type=SeenTree).data)
    sys.stdout.write(f"{one_line(chat.title, 100)}\n")
    for line in tree.lines(head=chat.head_turn_id, notes=await first_words(api, chat_id, tree)):
        sys.stdout.write(clean(line) + "\n")


async def first_words(api: Api, chat_id: str, tree: Tree) -> dict[str, str]:
    """What each turn says first, by its id: of the newest turns of the newest branches."""
    words: dict[str, str] = {}
    for leaf in tree.leaves()[::-1][:_BRANCHES]:
        page = await api.get(f"{chat_path(chat_id)}/turns?branch={leaf.id}&limit={_PAGE}", SeenTurns)
        words |= {turn.id: one_line(turn.text(), _WORDS) for turn in page.data}
    return words

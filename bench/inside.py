"""A server that says what is inside it: `legato serve` in all but one path more, ``/inside``.

``python -m bench.inside PORT`` serves the database ``bench.db`` of its folder until it is told to stop.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import re
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from legato import compose
from legato.config import Config, load
from legato.core.context import ToolContext
from legato.core.errors import ToolError
from legato.http.app import App
from legato.serve import Server, bind
from legato.tools.declare import tool

DRAIN = 5.0  # seconds

CONTAINERS = (dict, list, set, deque, bytearray)


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """What a process holds. ``sizes`` are lengths of the containers of all objects of ours together, by class and
    attribute; ``objects`` are how many there are, by class."""

    rss: int
    """Bytes, of which the allocator keeps some for later."""
    used: int
    """Bytes that are in use: of the C library's allocator and, for what is small, of Python's own."""
    blocks: int
    """Of Python's own allocator, in use."""
    tasks: int
    files: int
    sockets: int
    threads: int
    readers: int
    wal: int
    sizes: dict[str, int]
    objects: dict[str, int]


@tool(effect="read")
async def look(ms: int, *, ctx: ToolContext) -> str:
    """Takes a while, and says so."""
    await ctx.emit("looking\n")
    await anyio.sleep(ms / 1000)
    return "seen"


@tool(effect="write")
def change(what: str) -> dict[str, str]:
    """In a thread."""
    return {"changed": what}


@tool(effect="idempotent")
async def fail(why: str) -> str:
    """Never comes to a good end."""
    raise ToolError(why)


@tool(effect="read")
async def much(size: int) -> str:
    """More than a log takes."""
    return "much " * size


@tool(effect="write", needs_approval=True)
async def sign(what: str) -> str:
    """A person says yes or no first."""
    return f"signed: {what}"


TOOLS = (look, change, fail, much, sign)


def inside(app: App, db: Path) -> Inside:
    """At this moment, with nothing left that only waits for the collector. What was there at the start counts too."""
    gc.unfreeze()
    gc.collect()
    sizes: Counter[str] = Counter()
    objects: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith("legato."):
            objects[kind.__qualname__] += 1
            for name, value in _attributes(each):
                if isinstance(value, CONTAINERS):
                    sizes[f"{kind.__qualname__}.{name}"] += len(value)
    wal = db.with_name(db.name + "-wal")
    said = Inside(
        rss=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        used=_malloc_bytes() + _python_bytes(),
        blocks=sys.getallocatedblocks(),
        tasks=len(asyncio.all_tasks()),
        files=len(links := _links()),
        sockets=sum(link.startswith("socket:") for link in links),
        threads=threading.active_count(),
        readers=app.readers.count,
        wal=wal.stat().st_size if wal.exists() else 0,
        sizes=dict(sizes),
        objects=dict(objects),
    )
    gc.freeze()
    return said


_MALLINFO = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2`` (mallinfo(3), 2.33)."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _MALLINFO)


def _malloc_bytes() -> int:
    """What is allocated, in its arenas and mapped alone."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _MallInfo
    info = ask()
    return int(info.uordblks) + int(info.hblkhd)


def _python_bytes() -> int:
    """Of blocks up to 512 bytes, which do not come from the C library. Python says it to stderr only."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()  # noqa: SLF001 - documented, with its underscore
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        found = re.search(rb"# bytes in allocated blocks\s*=\s*([\d,]+)", file.read())
    assert found is not None
    return int(found[1].replace(b",", b""))


def _attributes(each: object) -> Iterator[tuple[str, object]]:
    yield from getattr(each, "__dict__", {}).items()
    for kind in type(each).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(each, name):
                yield name, getattr(each, name)


def _links() -> list[str]:
    """What the open files are, the folder that lists them left out."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return found


def configured(db: Path, port: int) -> Config:
    return load(flags={"server.db": str(db), "server.port": port, "server.model": "script/echo"}, environ={}, file=None)


async def main(port: int) -> None:
    db = Path.cwd() / "bench.db"
    config = configured(db, port)
    sockets = bind("127.0.0.1", port)
    async with compose.open_service(config, tools=TOOLS) as service:

        async def said(_: Request) -> Response:
            return Response(msgspec.json.encode(inside(app, db)), media_type="application/json")

        app = compose.serving_app(config, service, surfaces=[Route("/inside", said)])

        async def drain() -> None:
            await service.drain(DRAIN)

        compose.keep_collections_short()
        await Server(app, drain=drain, ready=lambda: None).serve(sockets)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

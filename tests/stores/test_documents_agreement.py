"""Over random histories SQLite's documents say what the ones in memory say, and the index says what the texts say."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.core.documents import Bounds, Change, Delete, Document, Edit, Entry, Import, Move, Put, Restore
from legato.core.errors import RequestError
from legato.ports import Documents
from legato.stores.memory_documents import MemoryDocuments
from legato.stores.sqlite import open_sqlite

BOUNDS = Bounds(
    document_bytes=60, documents=6, workspace_bytes=150, versions=3, version_bytes=100, deleted=2, changed=4
)
WORDS = ("dragon", "Dragons", "raven", "Café", "cafe", "hill", "龍", "straße")

names = st.sampled_from(("a", "A", "b", "é", "e\u0301", "dragon.md"))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
folders = st.lists(names, min_size=1, max_size=2).map(lambda parts: "/".join(parts) + "/")
places = st.one_of(paths, folders)
texts = st.lists(st.sampled_from((*WORDS, "\n", "!")), max_size=6).map(" ".join)
versions = st.one_of(st.none(), st.integers(1, 30))
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(Put, path=paths, text=texts, new=st.booleans()),
    st.builds(Put, path=paths, text=texts, version=versions),
    st.builds(Edit, path=paths, old=st.sampled_from(WORDS), new=texts),
    st.builds(Move, path=places, to=places),
    st.builds(Delete, path=places),
    st.builds(Restore, path=places, to_version=versions),
    st.builds(
        Import,
        entries=st.lists(st.builds(Entry, paths, texts), max_size=3).map(tuple),
        existing=st.sampled_from(("reject", "replace", "skip")),
    ),
)
queries = st.lists(
    st.sampled_from(("dragon", "raven", "cafe", "hill", "龍", '"dragon raven"', "strasse", "b")), max_size=2
)


async def told(documents: Documents, owner: str, change: Change) -> object:
    """What it did, times aside, or the code it was refused with."""
    try:
        did = await documents.change(owner, change)
    except RequestError as error:
        return error.code, str(error)
    return did.what, did.version, did.count, [timeless(one) for one in did.documents]


def timeless(one: Document) -> tuple[object, ...]:
    return one.path, one.version, one.bytes, one.words


async def everything(documents: Documents, owner: str) -> object:
    """All that can be read of a workspace, a page of two at a time."""
    read: list[object] = [await documents.tree(owner, "")]
    for deleted in (False, True):
        before = None
        while True:
            page = await documents.page(owner, folder="", limit=2, before=before, deleted=deleted)
            read += [timeless(one) for one in page.data]
            for one in page.data:
                versions = await documents.versions(owner, one.path, limit=50, before=None)
                for version in versions.data:
                    was = await documents.read(owner, one.path, version=version.version)
                    read.append((version.what, version.path, version.text_version, timeless(was), was.lines, was.text))
            if page.next is None:
                break
            before = page.next
    return read


async def found(documents: Documents, owner: str, query: str, folder: str) -> object:
    try:
        page = await documents.search(owner, query, folder=folder, limit=50, before=None)
    except RequestError as error:
        return error.code
    return page.matched, sorted((hit.path, hit.version, hit.line, hit.snippet) for hit in page.data)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("ann", "ann", "bob")), changes), max_size=14), queries, folders)
def test_both_stores_say_the_same_of_every_history(
    history: list[tuple[str, Change]], query: list[str], folder: str
) -> None:
    async def compare(file: Path) -> None:
        store = await open_sqlite(file)
        real, fake = store.documents(BOUNDS), MemoryDocuments(BOUNDS)
        try:
            for owner, change in history:
                assert await told(real, owner, change) == await told(fake, owner, change)
            for owner in ("ann", "bob"):
                assert msgspec.to_builtins(await everything(real, owner)) == msgspec.to_builtins(
                    await everything(fake, owner)
                )
                for within in ("", folder):
                    asked = " ".join(query)
                    assert await found(real, owner, asked, within) == await found(fake, owner, asked, within)
        finally:
            await store.close()
        check_index(file)

    with tempfile.TemporaryDirectory() as folder_:
        asyncio.run(compare(Path(folder_) / "legato.db"))


def check_index(file: Path) -> None:
    """FTS5 compares every entry with the text it is of, and finds none without one (sqlite.org/fts5.html, 4.4.5)."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("INSERT INTO document_words (document_words, rank) VALUES ('integrity-check', 1)")


def test_an_index_that_lost_an_entry_is_found_out(tmp_path: Path) -> None:
    async def put() -> None:
        store = await open_sqlite(tmp_path / "legato.db")
        await store.documents(BOUNDS).change("ann", Put(path="a", text="dragon"))
        await store.close()

    asyncio.run(put())
    check_index(tmp_path / "legato.db")
    connection = sqlite3.connect(tmp_path / "legato.db", isolation_level=None)
    connection.execute("DROP TRIGGER document_changed")
    connection.execute("UPDATE document SET text = 'raven'")
    connection.close()
    with pytest.raises(sqlite3.DatabaseError):
        check_index(tmp_path / "legato.db")


@settings(max_examples=25, deadline=None)
@given(st.lists(changes, max_size=12))
def test_a_word_is_found_in_exactly_the_documents_that_have_it(history: list[Change]) -> None:
    """Against a look at each text, which knows nothing of how either store searches."""

    async def look(file: Path) -> None:
        store = await open_sqlite(file)
        documents = store.documents(BOUNDS)
        try:
            for change in history:
                await told(documents, "ann", change)
            entries = await documents.entries("ann", "", max_bytes=10_000)
            for word in ("raven", "hill", "dragon"):
                page = await documents.search("ann", word, folder="", limit=50, before=None)
                naive = {
                    one.path for one in entries if re.search(rf"\b{word}", f"{one.path} {one.text}", re.IGNORECASE)
                }
                assert {hit.path for hit in page.data} == naive
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(look(Path(folder) / "legato.db"))

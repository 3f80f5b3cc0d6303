"""What every store of documents does. Each test runs on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from legato.core.documents import (
    Bounds,
    Change,
    Changed,
    Delete,
    Edit,
    Entry,
    Import,
    Move,
    Put,
    Restore,
)
from legato.core.errors import Conflict, InvalidRequest, NotFound, RequestError
from legato.ports import Documents
from legato.stores.memory_documents import MemoryDocuments
from legato.stores.sqlite import open_sqlite

pytestmark = pytest.mark.anyio

BOUNDS = Bounds(document_bytes=200, documents=8, workspace_bytes=600, versions=3, deleted=2, changed=5)


class Desk:
    """One owner at their workspace."""

    def __init__(self, documents: Documents, owner: str = "ann") -> None:
        self.documents = documents
        self.owner = owner

    def other(self, owner: str) -> Desk:
        return Desk(self.documents, owner)

    async def do(self, change: Change, *, key: str | None = None) -> Changed:
        return await self.documents.change(self.owner, change, key=key)

    async def put(self, path: str, text: str = "") -> Changed:
        return await self.do(Put(path=path, text=text))

    async def text(self, path: str, version: int | None = None) -> str:
        return (await self.documents.read(self.owner, path, version=version)).text

    async def paths(self, folder: str = "") -> list[str]:
        return [path for path, _ in await self.documents.tree(self.owner, folder)]

    async def found(self, query: str, folder: str = "") -> list[str]:
        page = await self.documents.search(self.owner, query, folder=folder, limit=50, before=None)
        return [hit.path for hit in page.data]

    async def deleted(self) -> list[str]:
        page = await self.documents.page(self.owner, folder="", limit=50, before=None, deleted=True)
        return [one.path for one in page.data]

    async def refused(self, change: Change) -> str:
        """The code of it."""
        with pytest.raises(RequestError) as refused:
            await self.do(change)
        return refused.value.code


@pytest.fixture(params=["memory", "sqlite"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    if request.param == "memory":
        yield Desk(MemoryDocuments(BOUNDS))
        return
    store = await open_sqlite(tmp_path / "legato.db")
    yield Desk(store.documents(BOUNDS))
    await store.close()


async def test_a_document_is_read_as_it_was_put_and_counts_its_lines_words_and_bytes(desk: Desk) -> None:
    did = await desk.put("novel/eins.md", "Ein Drache\r\nschläft.\r\n")
    (one,) = did.documents
    assert (did.what, one.path, one.bytes, one.words) == ("created", "novel/eins.md", 21, 3)
    read = await desk.documents.read("ann", "novel/eins.md")
    assert (read.text, read.lines, read.version) == ("Ein Drache\nschläft.\n", 2, did.version)
    assert read.created_at == read.updated_at


async def test_a_path_is_found_whatever_its_case_and_its_accents_are_made_of(desk: Desk) -> None:
    await desk.put("Novel/E\u0301toile.md", "x")
    assert await desk.text("novel/\u00e9toile.MD") == "x"
    assert await desk.paths() == ["Novel/\u00c9toile.md"]
    await desk.put("nOVEL/two.md")
    assert await desk.paths() == ["Novel/two.md", "Novel/\u00c9toile.md"]


async def test_putting_the_same_text_again_makes_no_version(desk: Desk) -> None:
    first = await desk.put("a", "x")
    again = await desk.put("a", "x")
    assert (again.what, again.version, again.documents) == (None, first.version, first.documents)


async def test_nobody_sees_or_changes_what_is_someone_elses(desk: Desk) -> None:
    await desk.put("a/secret", "dragon")
    bob = desk.other("bob")
    assert await bob.paths() == await bob.found("dragon") == await bob.deleted() == []
    with pytest.raises(NotFound):
        await bob.text("a/secret")
    for change in (Edit(path="a/secret", old="d", new="x"), Delete(path="a/"), Move(path="a/secret", to="b")):
        assert await bob.refused(change) == "not_found"
    await bob.put("a/secret", "raven")
    assert await desk.text("a/secret") == "dragon"
    assert await desk.found("raven") == []


async def test_a_version_that_is_asked_for_must_be_the_present_one(desk: Desk) -> None:
    first = (await desk.put("a", "x")).version
    assert await desk.refused(Put(path="a", text="y", version=first + 1)) == "document_changed"
    second = (await desk.do(Put(path="a", text="y", version=first))).version
    for change in (
        Put(path="a", text="z", version=first),
        Edit(path="a", old="y", new="z", version=first),
        Move(path="a", to="b", version=first),
        Delete(path="a", version=first),
        Restore(path="a", version=first),
    ):
        assert await desk.refused(change) == "document_changed"
    assert (await desk.do(Delete(path="a", version=second))).what == "deleted"
    assert await desk.refused(Put(path="a", text="z", version=second)) == "not_found"


async def test_no_version_of_one_document_is_ever_one_of_another_at_the_same_path(desk: Desk) -> None:
    mine = (await desk.put("a", "x")).version
    await desk.put("b", "y")
    await desk.do(Move(path="a", to="c"))
    await desk.do(Move(path="b", to="a"))
    assert await desk.refused(Put(path="a", text="z", version=mine)) == "document_changed"


async def test_of_two_edits_at_once_of_one_passage_one_is_made(desk: Desk) -> None:
    await desk.put("a", "the dragon sleeps")
    edits = [Edit(path="a", old="sleeps", new=word) for word in ("wakes", "dreams")]
    done = await asyncio.gather(*map(desk.do, edits), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["Changed", "Conflict"]
    assert await desk.text("a") in {"the dragon wakes", "the dragon dreams"}


@pytest.mark.parametrize(
    ("old", "code", "said"),
    [
        ("sleeps under", "passage_not_found", "0 times in 'a'; .*\n2: The dragon sleeps on the hill."),
        ("dragon", "passage_ambiguous", "2 times in 'a', in lines 1, 2;"),
        ("", "invalid_request", "it is empty"),
        ("zzz", "passage_not_found", "no line of it has a word"),
    ],
)
async def test_an_edit_names_the_count_and_what_is_nearest(desk: Desk, old: str, code: str, said: str) -> None:
    await desk.put("a", "A dragon.\nThe dragon sleeps on the hill.\n")
    with pytest.raises(RequestError, match=said) as refused:
        await desk.do(Edit(path="a", old=old, new="x"))
    assert refused.value.code == code


async def test_an_edit_of_lines_ended_in_the_windows_way_finds_its_passage(desk: Desk) -> None:
    await desk.put("a", "one\r\ntwo\r\n")
    await desk.do(Edit(path="a", old="one\r\ntwo", new="1\r\n2"))
    assert await desk.text("a") == "1\n2\n"


async def test_a_change_with_a_key_is_made_once_and_its_outcome_is_kept(desk: Desk) -> None:
    await desk.put("a", "x")
    assert await desk.documents.changed("k") is None
    edit = Edit(path="a", old="x", new="xx")
    did = await desk.do(edit, key="k")
    assert await desk.do(edit, key="k") == did == await desk.documents.changed("k")
    assert await desk.text("a") == "xx"
    with pytest.raises(Conflict):
        await desk.do(Put(path="a", text="y", new=True), key="refused")
    assert await desk.documents.changed("refused") is None


# Places


async def test_a_document_stands_neither_where_a_folder_is_nor_in_a_document(desk: Desk) -> None:
    await desk.put("a/b/c")
    await desk.put("x")
    for path in ("a", "A/B", "x/y", "a/b/c/d/e"):
        assert await desk.refused(Put(path=path, text="")) == "document_exists"
    assert await desk.refused(Move(path="x", to="a/b")) == "document_exists"
    assert await desk.refused(Put(path="X", text="", new=True)) == "document_exists"


async def test_a_document_moves_into_a_folder_under_its_own_name_or_to_a_new_one(desk: Desk) -> None:
    await desk.put("a.md", "dragon")
    await desk.do(Move(path="a.md", to="novel/"))
    assert await desk.paths() == ["novel/a.md"]
    await desk.do(Move(path="novel/a.md", to="b.md"))
    assert await desk.paths() == ["b.md"] == await desk.found("dragon")


async def test_nothing_is_moved_onto_another_document(desk: Desk) -> None:
    await desk.put("a/one", "1")
    await desk.put("b/one", "2")
    await desk.put("a/two", "3")
    assert await desk.refused(Move(path="a/one", to="b/")) == "document_exists"
    assert await desk.refused(Move(path="a/", to="b/")) == "document_exists"
    assert await desk.paths() == ["a/one", "a/two", "b/one"]
    assert await desk.refused(Move(path="c/", to="d/")) == "not_found"
    assert await desk.refused(Move(path="a", to="d")) == "not_found"


async def test_a_folder_moves_with_all_that_is_in_it_into_one_that_is_there_too(desk: Desk) -> None:
    for path in ("a/one", "a/deep/two", "ab/three", "b/four"):
        await desk.put(path, "dragon")
    did = await desk.do(Move(path="a/", to="b"))
    assert (did.what, did.count) == ("moved", 2)
    assert await desk.paths() == ["ab/three", "b/deep/two", "b/four", "b/one"]
    assert await desk.paths("b/deep/") == ["b/deep/two"]
    assert set(await desk.found("dragon", "b/")) == {"b/deep/two", "b/four", "b/one"}
    for to in ("b/inner/", "/"):
        assert await desk.refused(Move(path="b/", to=to)) == "path_invalid"


async def test_a_folder_and_a_document_may_be_spelled_anew(desk: Desk) -> None:
    await desk.put("novel/one")
    await desk.put("novel/two")
    await desk.do(Move(path="novel/", to="NOVEL/"))
    await desk.do(Move(path="NOVEL/one", to="Novel/One"))
    assert await desk.paths() == ["NOVEL/One", "NOVEL/two"]
    assert (await desk.do(Move(path="NOVEL/One", to="novel/One"))).what is None


async def test_a_document_may_take_the_place_of_its_own_folder(desk: Desk) -> None:
    await desk.put("a/b", "x")
    await desk.do(Move(path="a/b", to="a"))
    await desk.do(Move(path="a", to="a/b/c"))
    assert await desk.paths() == ["a/b/c"]


# Versions


async def test_every_text_of_a_document_is_kept_across_its_moves(desk: Desk) -> None:
    made = (await desk.put("a", "one")).version
    moved = (await desk.do(Move(path="a", to="b/c"))).version
    edited = (await desk.do(Edit(path="b/c", old="one", new="two"))).version
    page = await desk.documents.versions("ann", "b/c", limit=9, before=None)
    assert [(one.version, one.what, one.path, one.text_version) for one in page.data] == [
        (edited, "edited", "b/c", edited),
        (moved, "moved", "b/c", made),
        (made, "created", "a", made),
    ]
    assert [await desk.text("b/c", one) for one in (made, moved, edited)] == ["one", "one", "two"]
    read = await desk.documents.read("ann", "b/c", version=made)
    assert (read.path, read.version) == ("a", made)
    for none in (edited + 1, 999):
        with pytest.raises(NotFound):
            await desk.text("b/c", none)


async def test_restoring_gives_the_text_before_or_that_of_a_version(desk: Desk) -> None:
    made = (await desk.put("a", "dragon")).version
    assert await desk.refused(Restore(path="a")) == "not_found"
    await desk.put("a", "raven")
    did = await desk.do(Restore(path="a"))
    assert (did.what, await desk.text("a"), await desk.found("dragon")) == ("restored", "dragon", ["a"])
    await desk.put("a", "raven")
    await desk.do(Restore(path="a", to_version=did.version))
    assert (await desk.text("a"), await desk.found("raven")) == ("dragon", [])
    assert await desk.refused(Restore(path="a", to_version=made)) == "not_found"
    assert await desk.refused(Restore(path="a", to_version=999)) == "not_found"
    assert await desk.refused(Restore(path="b")) == "not_found"


async def test_the_oldest_texts_go_and_the_rest_stay_readable(desk: Desk) -> None:
    made = [(await desk.put("a", f"text {number}")).version for number in range(5)]
    for number in range(5):
        await desk.do(Move(path="a" if number % 2 == 0 else "b", to="b" if number % 2 == 0 else "a"))
    page = await desk.documents.versions("ann", "b", limit=50, before=None)
    kept = [one.version for one in page.data]
    assert [version for version in made if version in kept] == made[2:]
    assert len(kept) == 6
    assert [await desk.text("b", one.version) for one in page.data] == ["text 4"] * 4 + ["text 3", "text 2"]


async def test_versions_come_a_page_at_a_time(desk: Desk) -> None:
    for text in "xyz":
        await desk.put("a", text)
    seen: list[int] = []
    before = None
    while True:
        page = await desk.documents.versions("ann", "a", limit=2, before=before)
        seen += [one.version for one in page.data]
        if page.next is None:
            break
        before = page.next
    assert len(seen) == 3
    assert seen == sorted(seen, reverse=True)


# Deleting


async def test_a_deleted_document_is_nowhere_and_comes_back_with_its_versions(desk: Desk) -> None:
    made = (await desk.put("a/b", "dragon")).version
    gone = (await desk.do(Delete(path="A/B"))).version
    assert await desk.paths() == await desk.found("dragon") == []
    assert await desk.deleted() == ["a/b"]
    with pytest.raises(NotFound):
        await desk.text("a/b")
    assert await desk.text("a/b", made) == "dragon"
    assert await desk.refused(Delete(path="a/b")) == "not_found"
    did = await desk.do(Restore(path="a/b", version=gone))
    assert (did.what, await desk.found("dragon"), await desk.deleted()) == ("restored", ["a/b"], [])
    page = await desk.documents.versions("ann", "a/b", limit=9, before=None)
    assert [one.what for one in page.data] == ["restored", "deleted", "created"]


async def test_a_folder_is_deleted_and_brought_back_as_it_was_taken(desk: Desk) -> None:
    for path in ("a/one", "a/two", "ab"):
        await desk.put(path, "dragon")
    await desk.do(Delete(path="a/two"))
    await desk.put("a/two", "raven")
    assert (await desk.do(Delete(path="a/"))).count == 2
    assert await desk.paths() == ["ab"]
    assert (await desk.do(Restore(path="a/"))).count == 2
    assert await desk.paths() == ["a/one", "a/two", "ab"]
    assert set(await desk.found("dragon raven")) == {"a/one", "a/two", "ab"}
    assert await desk.refused(Restore(path="a/")) == "not_found"
    assert await desk.refused(Delete(path="/")) == "path_invalid"


async def test_a_document_made_where_one_was_deleted_goes_on_with_its_versions(desk: Desk) -> None:
    made = (await desk.put("a", "old")).version
    await desk.do(Delete(path="a"))
    again = await desk.put("a", "new")
    assert (again.what, await desk.text("a", made)) == ("created", "old")
    assert await desk.deleted() == []


async def test_what_was_deleted_does_not_come_back_onto_what_is_there(desk: Desk) -> None:
    await desk.put("a", "1")
    await desk.put("b", "2")
    await desk.do(Delete(path="a"))
    await desk.do(Move(path="b", to="a"))
    await desk.do(Delete(path="a"))
    await desk.do(Restore(path="a"))
    assert await desk.text("a") == "2"
    assert await desk.deleted() == ["a"]


async def test_the_documents_that_were_deleted_first_are_forgotten(desk: Desk) -> None:
    for path in ("a", "b", "c"):
        await desk.put(path, "x")
        await desk.do(Delete(path=path))
    assert await desk.deleted() == ["c", "b"]
    assert await desk.refused(Restore(path="a")) == "not_found"
    first = await desk.documents.page("ann", folder="", limit=1, before=None, deleted=True)
    rest = await desk.documents.page("ann", folder="", limit=1, before=first.next, deleted=True)
    assert ([one.path for one in (*first.data, *rest.data)], rest.next) == (["c", "b"], None)


# Bounds


async def test_a_bound_that_is_met_says_its_name_and_its_number(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="has 201 bytes, limit is 200") as refused:
        await desk.put("a", "x" * 201)
    assert (refused.value.code, refused.value.limit, refused.value.actual) == ("document_too_large", 200, 201)
    await desk.put("a", "é" * 100)
    assert await desk.refused(Edit(path="a", old="é" * 100, new="é" * 101)) == "document_too_large"
    await desk.put("b", "x" * 200)
    await desk.put("c", "x" * 200)
    with pytest.raises(InvalidRequest, match="601 bytes, limit is 600"):
        await desk.put("d", "x")
    await desk.put("c", "x" * 199)
    await desk.put("d", "x")
    await desk.do(Delete(path="a"))
    for number in range(5):
        await desk.put(f"e{number}")
    with pytest.raises(InvalidRequest, match="9 documents, limit is 8"):
        await desk.put("one more")
    assert await desk.refused(Restore(path="a")) == "workspace_full"


async def test_an_import_is_whole_or_not_at_all(desk: Desk) -> None:
    await desk.put("n/a", "old")
    new = (Entry("N/b", "dragon"), Entry("n/A", "new"), Entry("Deep/x", ""), Entry("deep/y", ""))
    assert await desk.refused(Import(entries=new)) == "document_exists"
    assert await desk.paths() == ["n/a"]
    did = await desk.do(Import(entries=new, existing="skip"))
    assert (did.count, await desk.text("n/a")) == (3, "old")
    assert await desk.paths() == ["Deep/x", "Deep/y", "n/a", "n/b"]
    did = await desk.do(Import(entries=new, existing="replace"))
    assert (did.count, await desk.text("n/a"), await desk.found("dragon")) == (1, "new", ["n/b"])
    for twice in ((Entry("x", ""), Entry("X", "")), (Entry("x", ""), Entry("x/y", ""))):
        assert await desk.refused(Import(entries=twice)) == "archive_invalid"
    many = tuple(Entry(f"m{number}", "") for number in range(9))
    assert await desk.refused(Import(entries=many)) == "workspace_full"


# Lists and search


async def test_documents_are_listed_by_path_a_page_at_a_time(desk: Desk) -> None:
    for path in ("b", "a/2", "a/1", "ä", "a!"):
        await desk.put(path)
    seen: list[str] = []
    before = None
    while True:
        page = await desk.documents.page("ann", folder="", limit=2, before=before, deleted=False)
        seen += [one.path for one in page.data]
        if page.next is None:
            break
        before = page.next
    assert seen == ["a!", "a/1", "a/2", "b", "ä"]
    with pytest.raises(InvalidRequest, match="expected the `next`"):
        await desk.documents.page("ann", folder="", limit=2, before="bad", deleted=False)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dragon", ["dragons.md", "long.md", "hill.md"]),
        ("DRAGON*", ["dragons.md", "long.md", "hill.md"]),
        ("drag hill", ["hill.md"]),
        ('"red dragon"', ["hill.md"]),
        ('"dragon red"', []),
        ("straße", ["dragons.md"]),
        ("cafe", ["long.md"]),
        ("洞窟", ["hill.md"]),
        ("dragon 洞窟", ["hill.md"]),
        ("dragon nowhere", ["dragons.md", "long.md", "hill.md"]),
        ("ill", []),
        ("'; DROP TABLE document; --", []),
        ('NEAR(dragon hill) OR "', ["hill.md"]),
        ("text:dragon", []),
        ("local ann", []),
    ],
)
async def test_what_is_found_and_in_which_order(desk: Desk, query: str, found: list[str]) -> None:
    await desk.put("dragons.md", "Dragons of the Straße. Dragon, dragon.")
    await desk.put("long.md", "In the café " + "they talked and talked " * 6 + "of a dragon.")
    await desk.put("hill.md", "A red dragon on the hill 龍は洞窟にいる " + "and nothing else " * 7)
    page = await desk.documents.search("ann", query, folder="", limit=50, before=None)
    assert {hit.path for hit in page.data} == set(found)
    if found and page.matched == "all":
        assert page.data[0].path == found[0]


async def test_a_hit_shows_its_line_with_what_was_found_marked(desk: Desk) -> None:
    await desk.put("a", "Nothing.\n\nThe *Café* where dragons sat.\n")
    page = await desk.documents.search("ann", "cafe dragon", folder="", limit=5, before=None)
    (hit,) = page.data
    assert (hit.line, hit.snippet) == (3, "The *⟦Café⟧* where ⟦dragons⟧ sat.")


async def test_hits_come_a_page_at_a_time_and_a_cursor_is_of_its_own_search(desk: Desk) -> None:
    for number in range(5):
        await desk.put(f"n/{number}", "dragon " * (number + 1))
    seen: list[str] = []
    before = None
    while True:
        page = await desk.documents.search("ann", "dragon", folder="n/", limit=2, before=before)
        seen += [hit.path for hit in page.data]
        if page.next is None:
            break
        before = page.next
    assert sorted(seen) == [f"n/{number}" for number in range(5)]
    for query, folder in (("raven", "n/"), ("dragon", "")):
        with pytest.raises(InvalidRequest, match="same list"):
            await desk.documents.search("ann", query, folder=folder, limit=2, before=before)


@pytest.mark.parametrize("query", ["", "  ", "!?*", '""', "x" * 401])
async def test_a_query_without_a_word_or_too_long_is_refused_with_a_sentence(desk: Desk, query: str) -> None:
    with pytest.raises(InvalidRequest, match="query"):
        await desk.found(query)


async def test_a_folder_leaves_with_all_below_it_unless_it_is_too_large(desk: Desk) -> None:
    for path in ("a/1", "a/b/2", "ab/3"):
        await desk.put(path, path)
    entries = await desk.documents.entries("ann", "a/", max_bytes=8)
    assert entries == [Entry("a/1", "a/1"), Entry("a/b/2", "a/b/2")]
    with pytest.raises(InvalidRequest, match="8 bytes, limit of an archive is 7") as refused:
        await desk.documents.entries("ann", "a/", max_bytes=7)
    assert refused.value.code == "archive_too_large"


async def test_a_change_of_more_documents_than_it_may_touch_is_refused(desk: Desk) -> None:
    for number in range(6):
        await desk.put(f"n/{number}")
    for change in (Delete(path="n/"), Move(path="n/", to="m/")):
        with pytest.raises(InvalidRequest, match="6 documents, limit of one change is 5") as refused:
            await desk.do(change)
        assert refused.value.code == "too_many_documents"
    assert len(await desk.paths("n/")) == 6


async def test_all_that_the_last_deletion_took_can_be_brought_back_however_much_it_is(desk: Desk) -> None:
    await desk.put("first")
    await desk.do(Delete(path="first"))
    for number in range(5):
        await desk.put(f"n/{number}", "x" * 100)
    await desk.do(Delete(path="n/"))
    assert await desk.deleted() == [f"n/{number}" for number in range(5)]
    assert (await desk.do(Restore(path="n/"))).count == 5

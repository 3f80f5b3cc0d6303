"""``ports.Documents`` in dicts, for tests and for trying things out. It waits where a real store waits; a change is
made whole between two awaits. It looks through every text where the real one has an index."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from legato.clock import SystemClock
from legato.core.documents import (
    Bounds,
    Change,
    Changed,
    Document,
    DocumentPage,
    DocumentText,
    Entry,
    Hit,
    HitPage,
    Version,
    VersionPage,
    document_path,
    key_of,
)
from legato.core.queries import Query, fold, occurrences, read_query, snippet, words
from legato.core.workspace import Kept, Placed, Write, changed, decide, not_there, read, too_much, unchanged
from legato.ports import Clock
from legato.stores import pages


@dataclass
class _State:
    """A document after a change. ``text`` is None where the change left it as it was."""

    version: Version
    text: str | None


@dataclass
class _Row:
    nr: int
    document: Document
    text: str
    deleted: bool = False
    states: list[_State] = field(default_factory=list)

    @property
    def key(self) -> str:
        return key_of(self.document.path)

    def kept(self) -> Kept:
        one = self.document
        return Kept(
            path=one.path,
            version=one.version,
            bytes=one.bytes,
            words=one.words,
            created_at=one.created_at,
            updated_at=one.updated_at,
            nr=self.nr,
            text=self.text,
        )

    def forget(self, bounds: Bounds) -> None:
        """As many texts as may be kept, and of what has no text only what is younger than as many changes."""
        room = bounds.version_bytes
        oldest = 0
        texts = [one.version for one in self.states[::-1] if one.text is not None]
        for place, version in enumerate(texts):
            room -= version.bytes
            if place == 0 or (place < bounds.versions and room >= 0):
                oldest = version.version
        recent = {id(one) for one in self.states[-bounds.versions :]}
        self.states = [
            one for one in self.states if one.version.version >= oldest and (one.text is not None or id(one) in recent)
        ]


class _Shelf:
    """``core.workspace.Shelf``."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = sorted(rows, key=lambda row: row.key)

    def find(self, key: str) -> Kept | None:
        return next((row.kept() for row in self._rows if not row.deleted and row.key == key), None)

    def below(self, prefix: str) -> Sequence[Placed]:
        return [row.kept() for row in self.living(prefix)]

    def first_below(self, prefix: str, *, but: str | None) -> str | None:
        for row in self.living(prefix):
            if but is None or (row.key != but and not (but.endswith("/") and row.key.startswith(but))):
                return row.document.path
        return None

    def deleted(self, key: str) -> Kept | None:
        gone = [row for row in self._rows if row.deleted and row.key == key]
        return max(gone, key=lambda row: row.document.version).kept() if gone else None

    def deleted_below(self, prefix: str) -> Sequence[Placed]:
        gone = [row for row in self._rows if row.deleted and row.key.startswith(prefix)]
        last = max((row.document.version for row in gone), default=0)
        return [row.kept() for row in gone if row.document.version == last]

    def version(self, nr: int, version: int) -> Kept | None:
        row = self.row(nr)
        said = next((one.version for one in row.states if one.version.version == version), None)
        texts = [one.text for one in row.states if one.version.version <= version and one.text is not None]
        if said is None or not texts:
            return None
        return Kept(
            path=said.path,
            version=version,
            bytes=said.bytes,
            words=said.words,
            created_at=row.document.created_at,
            updated_at=said.at,
            nr=nr,
            text=texts[-1],
        )

    def text_before(self, nr: int) -> str | None:
        texts = [one.text for one in self.row(nr).states if one.text is not None]
        return texts[-2] if len(texts) > 1 else None

    def totals(self) -> tuple[int, int]:
        living = self.living("")
        return len(living), sum(row.document.bytes for row in living)

    def row(self, nr: int) -> _Row:
        return next(row for row in self._rows if row.nr == nr)

    def living(self, folder: str) -> list[_Row]:
        return [row for row in self._rows if not row.deleted and row.key.startswith(key_of(folder))]


class MemoryDocuments:
    def __init__(self, bounds: Bounds | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._bounds = bounds or Bounds()
        self._rows: dict[str, list[_Row]] = {}
        self._changes: dict[str, int] = {}
        self._calls: dict[str, Changed] = {}
        self._count = 0

    async def change(self, owner: str, change: Change, *, key: str | None = None) -> Changed:
        await asyncio.sleep(0)
        if key is not None and key in self._calls:
            return self._calls[key]
        shelf = self._shelf(owner)
        writes = decide(shelf, change, self._bounds)
        outcome = self._carry_out(owner, writes) if writes else unchanged(shelf, change)
        if key is not None:
            self._calls[key] = outcome
        return outcome

    async def changed(self, key: str) -> Changed | None:
        await asyncio.sleep(0)
        return self._calls.get(key)

    async def read(self, owner: str, path: str, *, version: int | None = None) -> DocumentText:
        await asyncio.sleep(0)
        return read(self._shelf(owner), path, version)

    async def page(self, owner: str, *, folder: str, limit: int, before: str | None, deleted: bool) -> DocumentPage:
        await asyncio.sleep(0)
        if deleted:
            return self._deleted(owner, folder, limit, before)
        last = "" if before is None else pages.read_path(before)
        rows = [row for row in self._shelf(owner).living(folder) if row.key > last]
        follows = pages.after_path(rows[limit - 1].key) if len(rows) > limit else None
        return DocumentPage(data=tuple(row.document for row in rows[:limit]), next=follows)

    async def tree(self, owner: str, folder: str) -> Sequence[tuple[str, int]]:
        await asyncio.sleep(0)
        return [(row.document.path, row.document.words) for row in self._shelf(owner).living(folder)]

    async def search(self, owner: str, query: str, *, folder: str, limit: int, before: str | None) -> HitPage:
        await asyncio.sleep(0)
        asked = read_query(query)
        matched: pages.Matched = "all"
        offset = 0
        if before is not None:
            matched, offset = pages.read_hit(before, (query, folder))
        rows = self._shelf(owner).living(folder)
        found = _ranked(rows, asked, every=matched == "all")
        if not found and before is None and len(asked.terms) > 1:
            matched, found = "any", _ranked(rows, asked, every=False)
        shown = found[offset : offset + limit]
        more = len(found) > offset + limit
        return HitPage(
            data=tuple(_hit(row, asked) for row in shown),
            matched=matched,
            next=pages.after_hit((query, folder), matched, offset + limit) if more else None,
        )

    async def versions(self, owner: str, path: str, *, limit: int, before: str | None) -> VersionPage:
        await asyncio.sleep(0)
        shelf = self._shelf(owner)
        key = key_of(document_path(path))
        found = shelf.find(key) or shelf.deleted(key)
        if found is None:
            raise not_there(path)
        last = math.inf if before is None else pages.read_version(before)
        states = [one.version for one in shelf.row(found.nr).states[::-1] if one.version.version < last]
        more = len(states) > limit
        return VersionPage(
            data=tuple(states[:limit]), next=pages.after_version(states[limit - 1].version) if more else None
        )

    async def entries(self, owner: str, folder: str, *, max_bytes: int) -> Sequence[Entry]:
        await asyncio.sleep(0)
        rows = self._shelf(owner).living(folder)
        if (size := sum(row.document.bytes for row in rows)) > max_bytes:
            raise too_much(size, max_bytes)
        return [Entry(row.document.path, row.text) for row in rows]

    def _shelf(self, owner: str) -> _Shelf:
        return _Shelf(self._rows.get(owner, ()))

    def _deleted(self, owner: str, folder: str, limit: int, before: str | None) -> DocumentPage:
        rows = [row for row in self._rows.get(owner, ()) if row.deleted and row.key.startswith(key_of(folder))]
        if before is not None:
            version, key = pages.read_deleted(before)
            rows = [row for row in rows if (-row.document.version, row.key) > (-version, key)]
        rows.sort(key=lambda row: (-row.document.version, row.key))
        more = len(rows) > limit
        return DocumentPage(
            data=tuple(row.document for row in rows[:limit]),
            next=pages.after_deleted(rows[limit - 1].document.version, rows[limit - 1].key) if more else None,
        )

    def _carry_out(self, owner: str, writes: Sequence[Write]) -> Changed:
        rows = self._rows.setdefault(owner, [])
        version = self._changes[owner] = self._changes.get(owner, 0) + 1
        now = self._clock.now()
        documents = [self._write(rows, one, version, now) for one in writes]
        if writes[0].what == "deleted":
            self._forget_deleted(rows, version)
        what = writes[0].what if len({one.what for one in writes}) == 1 else "edited"
        return changed(version, what, documents)

    def _forget_deleted(self, rows: list[_Row], version: int) -> None:
        gone = sorted((row for row in rows if row.deleted), key=lambda row: (-row.document.version, row.key))
        room = self._bounds.workspace_bytes
        for place, row in enumerate(gone):
            room -= row.document.bytes
            if row.document.version < version and (place >= self._bounds.deleted or room < 0):
                rows.remove(row)

    def _write(self, rows: list[_Row], one: Write, version: int, now: str) -> Document:
        row = next((row for row in rows if row.nr == one.nr), None)
        if row is None:
            self._count += 1
            row = _Row(self._count, _new(one.path, now), "")
            rows.append(row)
        row.text = row.text if one.text is None else one.text
        row.deleted = one.what == "deleted"
        row.document = Document(
            path=one.path,
            version=version,
            bytes=one.bytes,
            words=one.words,
            created_at=now if one.what == "created" else row.document.created_at,
            updated_at=now,
        )
        said = row.document
        text_version = version if one.text is not None else row.states[-1].version.text_version
        state = Version(
            version=version,
            what=one.what,
            path=said.path,
            bytes=said.bytes,
            words=said.words,
            at=now,
            text_version=text_version,
        )
        row.states.append(_State(state, one.text))
        row.forget(self._bounds)
        return said


def _new(path: str, now: str) -> Document:
    return Document(path=path, version=0, bytes=0, words=0, created_at=now, updated_at=now)


def _ranked(rows: Sequence[_Row], query: Query, *, every: bool) -> list[_Row]:
    """The best first: how many of the terms it has, how often, and how long it is."""
    ranked: list[tuple[float, str, _Row]] = []
    for row in rows:
        in_text, in_path = list(words(row.text)), list(words(row.document.path))
        folded = fold(row.text)
        scores = [
            occurrences(term, in_text, folded) / (1 + len(in_text)) + 4 * occurrences(term, in_path, "") / len(in_path)
            if not term.piece
            else float(occurrences(term, in_text, folded))
            for term in (query.terms if every else query.likely)
        ]
        met = sum(score > 0 for score in scores)
        if met == len(scores) or (met and not every):
            ranked.append((-met - sum(scores), row.key, row))
    return [row for _, _, row in sorted(ranked, key=lambda one: one[:2])]


def _hit(row: _Row, query: Query) -> Hit:
    line, shown = snippet(row.text, query)
    return Hit(path=row.document.path, version=row.document.version, words=row.document.words, line=line, snippet=shown)

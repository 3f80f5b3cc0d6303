"""What a change does to a workspace, decided in one place for every store.

A store gives ``decide`` a ``Shelf`` inside its own write transaction, so that what is looked at is what is changed, and
carries out the ``Write``\\ s it gives back. Nothing here writes: a change that is refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, assert_never

import msgspec

from legato.core.documents import (
    Bounds,
    Change,
    Changed,
    Delete,
    Document,
    DocumentText,
    Edit,
    Entry,
    Import,
    Move,
    Put,
    Restore,
    What,
    document_path,
    document_text,
    folder_path,
    key_of,
    line_count,
    place_path,
    word_count,
)
from legato.core.errors import Conflict, InvalidRequest, NotFound
from legato.core.passages import MOST_PLACES, line_at, nearest, places

SHOWN: Final = 100
"""Documents that ``Changed`` names."""


class Placed(Document, frozen=True, kw_only=True):
    """``nr`` is what a document stays known by, wherever it is moved."""

    nr: int


class Kept(Placed, frozen=True, kw_only=True):
    text: str


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """Make document ``nr`` (None: a new one) what ``path`` and ``text`` say; ``text`` None leaves it as it is.
    ``was_bytes``: what it held of the workspace before, None where it was not in it."""

    nr: int | None
    what: What
    path: str
    text: str | None
    bytes: int
    words: int
    was_bytes: int | None = None


class Shelf(Protocol):
    """One owner's workspace as it is now."""

    def find(self, key: str) -> Kept | None:
        """The document whose path has this key; not a deleted one."""

    def below(self, prefix: str) -> Sequence[Placed]:
        """Those whose key begins so, by key."""

    def first_below(self, prefix: str, *, but: str | None) -> str | None:
        """The path of the first of them; not the document of key ``but``, or where that ends with a slash, none in
        that folder."""

    def deleted(self, key: str) -> Kept | None:
        """The document that was deleted last at this path."""

    def deleted_below(self, prefix: str) -> Sequence[Placed]:
        """Those of them that the last deletion took, by key."""

    def version(self, nr: int, version: int) -> Kept | None:
        """The document as the change of this number to it left it; None where it is not kept."""

    def text_before(self, nr: int) -> str | None:
        """The text before the present one."""

    def totals(self) -> tuple[int, int]:
        """How many documents, and bytes of their texts."""


def decide(shelf: Shelf, change: Change, bounds: Bounds) -> list[Write]:
    """Raises ``RequestError``. No write at all: everything is as asked already."""
    match change:
        case Put():
            return _within(shelf, _put(shelf, change, bounds), bounds)
        case Edit():
            return _within(shelf, _edit(shelf, change, bounds), bounds)
        case Move():
            return _few(_move(shelf, change), bounds)
        case Delete():
            found = _named(shelf, change.path, change.version)
            return _few([_stays(one, "deleted", one.path) for one in found], bounds)
        case Restore():
            return _within(shelf, _restore(shelf, change, bounds), bounds)
        case Import():
            return _within(shelf, _import(shelf, change, bounds), bounds)
        case _:
            assert_never(change)


def changed(version: int, what: What | None, documents: Sequence[Document]) -> Changed:
    """``documents`` may be kept ones: their texts are left out."""
    shown = tuple(_entry(one) for one in documents[:SHOWN])
    return Changed(what=what, version=version, documents=shown, count=len(documents))


def not_there(path: str) -> NotFound:
    return NotFound(f"there is no document {path!r}")


def unchanged(shelf: Shelf, change: Change) -> Changed:
    """What a change did for which ``decide`` had nothing to write."""
    path = "" if isinstance(change, Import) else change.path
    found = shelf.find(key_of(document_path(path))) if path and not path.endswith("/") else None
    return changed(0 if found is None else found.version, None, () if found is None else (found,))


def read(shelf: Shelf, path: str, version: int | None) -> DocumentText:
    """``Documents.read``. A version that is given may be one of a document that was deleted: the last one at the path,
    unless there is one now."""
    path = document_path(path)
    found = shelf.find(key_of(path))
    if version is None:
        if found is None:
            raise not_there(path)
        return _with_text(found)
    # What it is now is kept whatever is forgotten of its versions.
    if found is not None and version == found.version:
        return _with_text(found)
    found = found or shelf.deleted(key_of(path))
    was = None if found is None else shelf.version(found.nr, version)
    if was is None:
        raise NotFound(f"no version {version} is kept of {path!r}")
    return _with_text(was)


def _with_text(found: Kept) -> DocumentText:
    return DocumentText(
        path=found.path,
        version=found.version,
        bytes=found.bytes,
        words=found.words,
        created_at=found.created_at,
        updated_at=found.updated_at,
        lines=line_count(found.text),
        text=found.text,
    )


def too_much(size: int, limit: int) -> InvalidRequest:
    """Of what shall leave in one archive."""
    said = f"the documents have {size} bytes, limit of an archive is {limit}; export one folder after another"
    return InvalidRequest(said, code="archive_too_large", limit=limit, actual=size)


def _entry(one: Document) -> Document:
    return Document(
        path=one.path,
        version=one.version,
        bytes=one.bytes,
        words=one.words,
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


# The changes


def _put(shelf: Shelf, change: Put, bounds: Bounds) -> list[Write]:
    path = document_path(change.path)
    text = _text(change.text, bounds)
    found = shelf.find(key_of(path))
    if found is None:
        if change.version is not None:
            raise not_there(path)
        return [_create(shelf, path, text)]
    if change.new:
        raise Conflict(f"there is a document {found.path!r} already", code="document_exists")
    _check_version(found, change.version)
    return _rewritten(found, text, "edited")


def _edit(shelf: Shelf, change: Edit, bounds: Bounds) -> list[Write]:
    path = document_path(change.path)
    found = shelf.find(key_of(path))
    if found is None:
        raise not_there(path)
    _check_version(found, change.version)
    old, new = document_text(change.old), document_text(change.new)
    if not old:
        raise InvalidRequest.at("/old", "it is empty; give the passage that is to be replaced, exactly as it stands")
    at = places(found.text, old)
    if not at:
        raise _no_passage(found, old)
    if len(at) > 1:
        lines = ", ".join(str(line_at(found.text, one)) for one in at[:10]) + (", …" if len(at) > 10 else "")
        times = len(at) if len(at) < MOST_PLACES else f"{MOST_PLACES} or more"
        raise Conflict(
            f"the passage stands {times} times in {found.path!r}, in lines {lines}; "
            "give more of the text around the one that is meant",
            code="passage_ambiguous",
        )
    return _rewritten(found, _text(found.text[: at[0]] + new + found.text[at[0] + len(old) :], bounds), "edited")


def _no_passage(found: Kept, old: str) -> Conflict:
    like = nearest(found.text, old)
    said = "no line of it has a word of the passage" if like is None else f"nearest to it is\n{like}"
    return Conflict(
        f"the passage stands 0 times in {found.path!r}; it must be given exactly as it stands. In version "
        f"{found.version} {said}",
        code="passage_not_found",
    )


def _move(shelf: Shelf, change: Move) -> list[Write]:
    moved = _named(shelf, change.path, change.version)
    source = place_path(change.path)
    if source.endswith("/"):
        pairs = _folder_pairs(moved, source, change.to)
    else:
        into = change.to.endswith("/")
        name = moved[0].path.rpartition("/")[2]
        target = document_path(f"{folder_path(change.to, field='to')}{name}" if into else change.to, field="to")
        pairs = [(moved[0], target)]
    own = {one.nr for one in moved}
    writes: list[Write] = []
    for one, target in pairs:
        place = _place(shelf, target, but=key_of(source), own=own)
        if place != one.path:
            writes.append(_stays(one, "moved", place))
    return writes


def _folder_pairs(moved: Sequence[Placed], source: str, to: str) -> list[tuple[Placed, str]]:
    target = folder_path(to, field="to")
    if not target:
        raise InvalidRequest.at("/to", "it is the whole workspace; name a folder", code="path_invalid")
    if key_of(target) != key_of(source) and key_of(target).startswith(key_of(source)):
        raise InvalidRequest.at("/to", f"{to!r} is inside of {source!r}", code="path_invalid")
    # By names, not by letters: folding may change how long a path is.
    depth = source.count("/")
    return [(one, document_path(target + "/".join(one.path.split("/")[depth:]), field="to")) for one in moved]


def _restore(shelf: Shelf, change: Restore, bounds: Bounds) -> list[Write]:
    path = place_path(change.path)
    if not path or path.endswith("/"):
        return _revived_folder(shelf, path, change)
    found = shelf.find(key_of(path))
    if found is None:
        return [_revived(shelf, path, change)]
    _check_version(found, change.version)
    to = change.to_version
    text = shelf.text_before(found.nr) if to is None else _text_of(shelf.version(found.nr, to))
    if text is None:
        which = "text before the present one" if to is None else f"version {to}"
        raise NotFound(f"no {which} is kept of {found.path!r}")
    return _rewritten(found, _text(text, bounds), "restored")


def _text_of(was: Kept | None) -> str | None:
    return None if was is None else was.text


def _revived(shelf: Shelf, path: str, change: Restore) -> Write:
    gone = shelf.deleted(key_of(path))
    if gone is None:
        raise NotFound(f"there is no document {path!r}, and none that was deleted")
    _check_version(gone, change.version)
    place = _place(shelf, gone.path, but=None, own=set())
    if change.to_version is None:
        return _stays(gone, "restored", place, gone=True)
    was = shelf.version(gone.nr, change.to_version)
    if was is None:
        raise NotFound(f"no version {change.to_version} is kept of {gone.path!r}")
    return _says(gone.nr, "restored", place, was.text)


def _revived_folder(shelf: Shelf, folder: str, change: Restore) -> list[Write]:
    if change.version is not None or change.to_version is not None:
        raise InvalidRequest.at("/path", "a folder has no versions; leave version and to_version out")
    gone = shelf.deleted_below(key_of(folder))
    if not gone:
        raise NotFound(f"nothing was deleted in {folder!r}")
    return [_stays(one, "restored", _place(shelf, one.path, but=None, own=set()), gone=True) for one in gone]


def _import(shelf: Shelf, change: Import, bounds: Bounds) -> list[Write]:
    writes: list[Write] = []
    coming: dict[str, str] = {}
    for entry in change.entries:
        path = document_path(entry.path)
        key = key_of(path)
        if key in coming:
            raise InvalidRequest(f"{path!r} and {coming[key]!r} are one path", code="archive_invalid")
        coming[key] = path
        writes += _imported(shelf, path, entry, change, bounds)
    for key, path in coming.items():
        names = key.split("/")
        for depth in range(1, len(names)):
            if (other := coming.get("/".join(names[:depth]))) is not None:
                raise InvalidRequest(
                    f"{other!r} would be a document and the folder of {path!r}", code="archive_invalid"
                )
    return _spelled_alike(writes)


def _imported(shelf: Shelf, path: str, entry: Entry, change: Import, bounds: Bounds) -> list[Write]:
    found = shelf.find(key_of(path))
    if found is None:
        return [_create(shelf, path, _text(entry.text, bounds, path))]
    if change.existing == "skip":
        return []
    if change.existing == "reject":
        raise Conflict(
            f"there is a document {found.path!r} already; import with existing=replace or skip, or into a folder",
            code="document_exists",
        )
    return _rewritten(found, _text(entry.text, bounds, path), "edited")


def _spelled_alike(writes: list[Write]) -> list[Write]:
    """New documents of one import whose folders differ in case alone are in one folder: as the first one has it."""
    spelled: dict[str, str] = {}
    alike: list[Write] = []
    for write in writes:
        names = write.path.split("/")
        for depth in range(1, len(names)):
            folder = "/".join(names[:depth])
            names[:depth] = spelled.setdefault(key_of(folder), folder).split("/")
        alike.append(msgspec.structs.replace(write, path="/".join(names)))
    return alike


# What they have in common


def _create(shelf: Shelf, path: str, text: str) -> Write:
    """Where one was deleted the new one goes on with its versions, so that they can still be looked at."""
    gone = shelf.deleted(key_of(path))
    place = _place(shelf, path, but=None, own=set())
    return _says(None if gone is None else gone.nr, "created", place, text)


def _rewritten(found: Kept, text: str, what: What) -> list[Write]:
    if text == found.text:
        return []
    return [_says(found.nr, what, found.path, text, was_bytes=found.bytes)]


def _says(nr: int | None, what: What, path: str, text: str, *, was_bytes: int | None = None) -> Write:
    return Write(
        nr=nr,
        what=what,
        path=path,
        text=text,
        bytes=len(text.encode()),
        words=word_count(text),
        was_bytes=was_bytes,
    )


def _stays(one: Placed, what: What, path: str, *, gone: bool = False) -> Write:
    """Its text does. ``gone``: it was not in the workspace."""
    return Write(
        nr=one.nr,
        what=what,
        path=path,
        text=None,
        bytes=one.bytes,
        words=one.words,
        was_bytes=None if gone else one.bytes,
    )


def _named(shelf: Shelf, path: str, version: int | None) -> Sequence[Placed]:
    """The document, or all of a folder."""
    place = place_path(path)
    if place and not place.endswith("/"):
        found = shelf.find(key_of(place))
        if found is None:
            below = shelf.first_below(f"{key_of(place)}/", but=None)
            hint = "" if below is None else f"; it is a folder, name it with a slash at the end: {place + '/'!r}"
            raise NotFound(f"there is no document {place!r}{hint}")
        _check_version(found, version)
        return [found]
    if version is not None:
        raise InvalidRequest.at("/version", "a folder has no version; leave it out")
    if not place:
        raise InvalidRequest.at("/path", "it is the whole workspace; name a folder in it", code="path_invalid")
    if not (inside := shelf.below(key_of(place))):
        raise NotFound(f"there is no folder {place!r}")
    return inside


def _place(shelf: Shelf, path: str, *, but: str | None, own: set[int]) -> str:
    """Where a document may go: the path, its folders spelled as those that are there. ``own`` are the documents that
    leave their places for it, ``but`` says the same of them by their key."""
    key = key_of(path)
    taken = shelf.find(key)
    if taken is not None and taken.nr not in own:
        raise Conflict(f"there is a document {taken.path!r} already", code="document_exists")
    if (below := shelf.first_below(f"{key}/", but=but)) is not None:
        raise Conflict(f"{path!r} is a folder already: {below!r} is in it", code="document_exists")
    names = path.split("/")
    for depth in range(len(names) - 1, 0, -1):
        folder = key_of("/".join(names[:depth]))
        blocking = shelf.find(folder)
        if blocking is not None and blocking.nr not in own:
            raise Conflict(f"{blocking.path!r} is a document, nothing can be in it", code="document_exists")
    for depth in range(len(names) - 1, 0, -1):
        there = shelf.first_below(f"{key_of('/'.join(names[:depth]))}/", but=but)
        if there is not None:
            return "/".join([*there.split("/")[:depth], *names[depth:]])
    return path


def _text(text: str, bounds: Bounds, path: str | None = None) -> str:
    text = document_text(text)
    if (size := len(text.encode())) > bounds.document_bytes:
        of = "" if path is None else f" of {path!r}"
        raise InvalidRequest.at(
            "/text",
            f"the text{of} has {size} bytes, limit is {bounds.document_bytes}",
            code="document_too_large",
            limit=bounds.document_bytes,
            actual=size,
        )
    return text


def _check_version(found: Document, version: int | None) -> None:
    if version is not None and version != found.version:
        raise Conflict(
            f"{found.path!r} is at version {found.version}, not {version}: read it again", code="document_changed"
        )


def _few(writes: list[Write], bounds: Bounds) -> list[Write]:
    """At 5,000 of 2 KB it takes 1.5 s (2026-11), as each is indexed anew."""
    if len(writes) > bounds.changed:
        raise InvalidRequest.at(
            "/path",
            f"it holds {len(writes)} documents, limit of one change is {bounds.changed}; take the folders in it",
            code="too_many_documents",
            limit=bounds.changed,
            actual=len(writes),
        )
    return writes


def _within(shelf: Shelf, writes: list[Write], bounds: Bounds) -> list[Write]:
    """Raises ``InvalidRequest`` where the workspace would hold more than it may. What makes it no larger is never
    refused, though the bound was lowered meanwhile."""
    more = sum(one.was_bytes is None for one in writes)
    growth = sum(one.bytes - (one.was_bytes or 0) for one in writes)
    count, size = shelf.totals()
    for what, actual, limit, grows in (
        ("documents", count + more, bounds.documents, more > 0),
        ("bytes", size + growth, bounds.workspace_bytes, growth > 0),
    ):
        if grows and actual > limit:
            said = f"the workspace would have {actual} {what}, limit is {limit}; delete what is not needed"
            raise InvalidRequest(said, code="workspace_full", limit=limit, actual=actual)
    return writes

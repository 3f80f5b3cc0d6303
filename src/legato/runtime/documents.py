"""The façade's part for documents: what a store gives, and what takes it to be put together."""

from __future__ import annotations

import functools
from typing import Literal

import anyio
import anyio.to_thread

from legato.core import archives
from legato.core.documents import (
    Bounds,
    Change,
    Changed,
    Difference,
    DocumentPage,
    DocumentText,
    HitPage,
    Import,
    Imported,
    VersionPage,
    folder_path,
)
from legato.core.errors import NotFound
from legato.core.passages import difference
from legato.ports import Documents

_PAGE = 200
SHOWN_SKIPPED = 100


class Workspaces:
    """One for each owner. Raises ``RequestError`` and ``StoreError``."""

    def __init__(self, documents: Documents, bounds: Bounds) -> None:
        self._documents = documents
        self._bounds = bounds
        # An archive is held in memory, packed and unpacked: one at a time.
        self._archives = anyio.CapacityLimiter(1)

    async def change(self, owner: str, change: Change) -> Changed:
        return await self._documents.change(owner, change)

    async def read(self, owner: str, path: str, *, version: int | None = None) -> DocumentText:
        return await self._documents.read(owner, path, version=version)

    async def page(
        self, owner: str, *, folder: str = "", limit: int, before: str | None = None, deleted: bool = False
    ) -> DocumentPage:
        return await self._documents.page(
            owner, folder=folder_path(folder), limit=limit, before=before, deleted=deleted
        )

    async def search(
        self, owner: str, query: str, *, folder: str = "", limit: int, before: str | None = None
    ) -> HitPage:
        return await self._documents.search(owner, query, folder=folder_path(folder), limit=limit, before=before)

    async def versions(self, owner: str, path: str, *, limit: int, before: str | None = None) -> VersionPage:
        return await self._documents.versions(owner, path, limit=limit, before=before)

    async def difference(
        self, owner: str, path: str, *, from_version: int | None = None, to_version: int | None = None
    ) -> Difference:
        """Of two versions: by default of the present text and the one before it."""
        new = await self._documents.read(owner, path, version=to_version)
        if from_version is None:
            from_version = await self._text_before(owner, path, new.version)
        old = None if from_version is None else await self._documents.read(owner, path, version=from_version)
        make = functools.partial(
            difference,
            "" if old is None else old.text,
            new.text,
            old_name="nothing" if old is None else f"{old.path} (version {old.version})",
            new_name=f"{new.path} (version {new.version})",
        )
        return Difference(
            path=new.path,
            from_version=from_version,
            to_version=new.version,
            diff=await anyio.to_thread.run_sync(make),
        )

    async def _text_before(self, owner: str, path: str, version: int) -> int | None:
        """The version that had the text before the one of this version; None where there is none, or none is kept."""
        text_version: int | None = None
        before: str | None = None
        while True:
            page = await self._documents.versions(owner, path, limit=_PAGE, before=before)
            for one in page.data:
                if one.version <= version and text_version is None:
                    text_version = one.text_version
                elif text_version is not None and one.text_version < text_version:
                    return one.text_version
            if page.next is None:
                return None
            before = page.next

    async def import_archive(
        self, owner: str, data: bytes, *, folder: str = "", existing: Literal["reject", "replace", "skip"] = "reject"
    ) -> Imported:
        """All of it or nothing."""
        into = folder_path(folder)
        async with self._archives:
            unpack = functools.partial(archives.unpack, data, folder=into, bounds=self._bounds)
            found = await anyio.to_thread.run_sync(unpack)
            did = await self._documents.change(owner, Import(entries=found.entries, existing=existing))
        return Imported(
            version=did.version, documents=did.documents, count=did.count, skipped=found.skipped[:SHOWN_SKIPPED]
        )

    async def export_archive(self, owner: str, *, folder: str = "") -> bytes:
        """A zip file of a folder and all below it; each document at its whole path, so that it can come back there."""
        of = folder_path(folder)
        async with self._archives:
            entries = await self._documents.entries(owner, of, max_bytes=archives.UNPACKED)
            if not entries and of:
                raise NotFound(f"there is no folder {of!r}")
            return await anyio.to_thread.run_sync(functools.partial(archives.pack, entries))

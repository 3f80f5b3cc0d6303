"""The workspace of documents: ``/v1/documents`` (docs/http.md "Documents").

The word behind it says what is done, and where a document's path is part of the URL it comes last: it holds slashes.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, UnsetType

from legato.core.documents import (
    Changed,
    Delete,
    Difference,
    DocumentPage,
    DocumentText,
    Edit,
    HitPage,
    Imported,
    Move,
    Put,
    Restore,
    VersionPage,
)
from legato.http.query import NoQuery
from legato.http.routes import Answer, Call, Media, NoBody, Operation, RawBody, Reply, Takes, operation, reply
from legato.runtime.service import TurnService

V = TypeVar("V", int, str)

PAGE: Final = 50
HITS: Final = 20
# Browsers on Windows name zip files by the second.
ZIP: Final = ("application/zip", "application/x-zip-compressed")

Limit = Annotated[int, Meta(ge=1, le=200, description="How many, at most")]
HitLimit = Annotated[int, Meta(ge=1, le=50, description="How many, at most")]
Before = Annotated[str, Meta(min_length=1, max_length=1024, description="The `next` of the page before")]
Folder = Annotated[str, Meta(max_length=1024, description="This folder and all below it; left out: everything")]
# A client in JavaScript could hold no greater one, and a query takes none either.
_GREATEST: Final = 2**53 - 1
Number = Annotated[int, Meta(ge=1, le=_GREATEST, description="The number of a version")]
PathText = Annotated[str, Meta(max_length=1024)]
AtVersion = Annotated[int, Meta(ge=1, le=_GREATEST, description="Only if the document is at this version")]


class DocumentsQuery(msgspec.Struct, frozen=True):
    folder: Folder = ""
    limit: Limit = PAGE
    before: Before | UnsetType = UNSET
    deleted: Annotated[Literal["1"], Meta(description="Those that can be brought back instead")] | UnsetType = UNSET


class SearchQuery(msgspec.Struct, frozen=True):
    query: Annotated[str, Meta(max_length=1024, description='Words; "side by side" in quotation marks; begin*')] = ""
    folder: Folder = ""
    limit: HitLimit = HITS
    before: Before | UnsetType = UNSET


class ReadQuery(msgspec.Struct, frozen=True):
    version: Number | UnsetType = UNSET


class DeleteQuery(msgspec.Struct, frozen=True):
    version: AtVersion | UnsetType = UNSET


class VersionsQuery(msgspec.Struct, frozen=True):
    limit: Limit = PAGE
    before: Before | UnsetType = UNSET


class DifferenceQuery(msgspec.Struct, frozen=True):
    from_version: Annotated[Number, Meta(description="Left out: the text before")] | UnsetType = UNSET
    to_version: Annotated[Number, Meta(description="Left out: the present one")] | UnsetType = UNSET


class ExportQuery(msgspec.Struct, frozen=True):
    folder: Folder = ""


class ImportQuery(msgspec.Struct, frozen=True):
    folder: Annotated[str, Meta(max_length=1024, description="Where to; left out: the top")] = ""
    existing: Annotated[
        Literal["reject", "replace", "skip"], Meta(description="What becomes of a document that is there already")
    ] = "reject"


class PutDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``new``: only if there is none. ``version``: only if it is at this one."""

    text: str
    new: bool = False
    version: AtVersion | UnsetType = UNSET


class EditDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``old`` must stand in the document exactly once."""

    path: PathText
    old: str
    new: str
    version: AtVersion | UnsetType = UNSET


class MoveDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A path that ends with a slash is a folder."""

    path: PathText
    to: PathText
    version: AtVersion | UnsetType = UNSET


class RestoreDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``to_version`` left out: what was deleted comes back, or the text before the present one."""

    path: PathText
    to_version: Number | UnsetType = UNSET
    version: AtVersion | UnsetType = UNSET


class DocumentRoutes:
    """The handlers. Each reads a call, asks the service, and shows what it said."""

    def __init__(self, service: TurnService) -> None:
        self._service = service

    async def page(self, call: Call[NoBody, DocumentsQuery]) -> Answer:
        query = call.query
        return reply(
            await self._service.documents.page(
                call.principal,
                folder=query.folder,
                limit=query.limit,
                before=_given(query.before),
                deleted=query.deleted is not UNSET,
            )
        )

    async def search(self, call: Call[NoBody, SearchQuery]) -> Answer:
        query = call.query
        return reply(
            await self._service.documents.search(
                call.principal, query.query, folder=query.folder, limit=query.limit, before=_given(query.before)
            )
        )

    async def read(self, call: Call[NoBody, ReadQuery]) -> Answer:
        version = _given(call.query.version)
        return reply(await self._service.documents.read(call.principal, call.path["path"], version=version))

    async def put(self, call: Call[PutDocument, NoQuery]) -> Answer:
        body = call.body
        change = Put(path=call.path["path"], text=body.text, new=body.new, version=_given(body.version))
        did = await self._service.documents.change(call.principal, change)
        if did.what != "created":
            return reply(did)
        return reply(did, status=201, location=f"/v1/documents/at/{quote(did.documents[0].path)}")

    async def delete(self, call: Call[NoBody, DeleteQuery]) -> Answer:
        change = Delete(path=call.path["path"], version=_given(call.query.version))
        return reply(await self._service.documents.change(call.principal, change))

    async def edit(self, call: Call[EditDocument, NoQuery]) -> Answer:
        body = call.body
        change = Edit(path=body.path, old=body.old, new=body.new, version=_given(body.version))
        return reply(await self._service.documents.change(call.principal, change))

    async def move(self, call: Call[MoveDocument, NoQuery]) -> Answer:
        body = call.body
        change = Move(path=body.path, to=body.to, version=_given(body.version))
        return reply(await self._service.documents.change(call.principal, change))

    async def restore(self, call: Call[RestoreDocument, NoQuery]) -> Answer:
        body = call.body
        change = Restore(path=body.path, to_version=_given(body.to_version), version=_given(body.version))
        return reply(await self._service.documents.change(call.principal, change))

    async def versions(self, call: Call[NoBody, VersionsQuery]) -> Answer:
        query = call.query
        return reply(
            await self._service.documents.versions(
                call.principal, call.path["path"], limit=query.limit, before=_given(query.before)
            )
        )

    async def difference(self, call: Call[NoBody, DifferenceQuery]) -> Answer:
        query = call.query
        return reply(
            await self._service.documents.difference(
                call.principal,
                call.path["path"],
                from_version=_given(query.from_version),
                to_version=_given(query.to_version),
            )
        )

    async def export_archive(self, call: Call[NoBody, ExportQuery]) -> Answer:
        folder = call.query.folder
        data = await self._service.documents.export_archive(call.principal, folder=folder)
        name = quote(folder.strip("/").rpartition("/")[2] or "documents", safe="")
        headers = (
            (b"content-disposition", f"attachment; filename*=UTF-8''{name}.zip".encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
        )
        return Reply(200, data, ZIP[0].encode(), headers)

    async def import_archive(self, call: Call[RawBody, ImportQuery]) -> Answer:
        return reply(
            await self._service.documents.import_archive(
                call.principal, call.body.data, folder=call.query.folder, existing=call.query.existing
            )
        )


def _given(value: V | UnsetType) -> V | None:
    return None if isinstance(value, UnsetType) else value


def operations(service: TurnService, *, import_bytes: int) -> list[Operation]:
    """The table of this surface."""
    routes = DocumentRoutes(service)
    return [*_reads(routes), *_changes(routes), *_archives(routes, import_bytes)]


def _reads(routes: DocumentRoutes) -> list[Operation]:
    return [
        operation(
            "GET /v1/documents",
            "Documents by path, those of a folder and below",
            routes.page,
            body=NoBody,
            query=DocumentsQuery,
            answers={200: (DocumentPage,)},
            codes=("path_invalid",),
        ),
        operation(
            "GET /v1/documents/search",
            "Documents that hold what is looked for, the best first",
            routes.search,
            body=NoBody,
            query=SearchQuery,
            answers={200: (HitPage,)},
            codes=("path_invalid",),
        ),
        operation(
            "GET /v1/documents/at/{path}",
            "A document and its text, as it is or as it was",
            routes.read,
            body=NoBody,
            query=ReadQuery,
            answers={200: (DocumentText,)},
            codes=("path_invalid",),
        ),
        operation(
            "GET /v1/documents/versions/{path}",
            "What was done to a document, the newest first",
            routes.versions,
            body=NoBody,
            query=VersionsQuery,
            answers={200: (VersionPage,)},
            codes=("path_invalid",),
        ),
        operation(
            "GET /v1/documents/diff/{path}",
            "What differs between two versions of a document",
            routes.difference,
            body=NoBody,
            query=DifferenceQuery,
            answers={200: (Difference,)},
            codes=("path_invalid",),
        ),
    ]


_PLACED: Final = ("document_changed", "document_exists", "path_invalid")
_WRITTEN: Final = ("document_too_large", "workspace_full")


def _changes(routes: DocumentRoutes) -> list[Operation]:
    return [
        operation(
            "PUT /v1/documents/at/{path}",
            "Make a document (201), or replace its text",
            routes.put,
            body=PutDocument,
            query=NoQuery,
            answers={200: (Changed,), 201: (Changed,)},
            codes=(*_PLACED, *_WRITTEN),
        ),
        operation(
            "DELETE /v1/documents/at/{path}",
            "Delete a document, or a folder, named with a slash at the end; both can be restored",
            routes.delete,
            body=NoBody,
            query=DeleteQuery,
            answers={200: (Changed,)},
            codes=("document_changed", "path_invalid", "too_many_documents"),
        ),
        operation(
            "POST /v1/documents/edit",
            "Replace one passage of a document",
            routes.edit,
            body=EditDocument,
            query=NoQuery,
            answers={200: (Changed,)},
            codes=(
                "document_changed",
                "not_found",
                "passage_ambiguous",
                "passage_not_found",
                "path_invalid",
                *_WRITTEN,
            ),
        ),
        operation(
            "POST /v1/documents/move",
            "Move a document or a folder",
            routes.move,
            body=MoveDocument,
            query=NoQuery,
            answers={200: (Changed,)},
            codes=("not_found", "too_many_documents", *_PLACED),
        ),
        operation(
            "POST /v1/documents/restore",
            "Bring back what was deleted, or an earlier text",
            routes.restore,
            body=RestoreDocument,
            query=NoQuery,
            answers={200: (Changed,)},
            codes=("not_found", *_PLACED, *_WRITTEN),
        ),
    ]


def _archives(routes: DocumentRoutes, import_bytes: int) -> list[Operation]:
    return [
        operation(
            "GET /v1/documents/archive",
            "A folder and all below it as a zip file",
            routes.export_archive,
            body=NoBody,
            query=ExportQuery,
            answers={200: (Media(ZIP[0], "The zip file, as an attachment"),)},
            codes=("archive_too_large", "not_found", "path_invalid"),
        ),
        operation(
            "POST /v1/documents/archive",
            "Put the texts of a zip file into the workspace, all or none",
            routes.import_archive,
            body=RawBody,
            query=ImportQuery,
            answers={200: (Imported,)},
            codes=("archive_invalid", "archive_too_large", *_PLACED, *_WRITTEN),
            takes=Takes(ZIP, import_bytes),
        ),
    ]

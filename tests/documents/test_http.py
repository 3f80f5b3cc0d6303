"""``/v1/documents`` as clients see it: the whole application over a real service on a real file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from legato.compose import open_service, serving_app
from legato.config import load
from legato.core.blocks import Json

pytestmark = pytest.mark.anyio

AT = "/v1/documents/at"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    config = load(
        flags={
            "server.db": str(tmp_path / "legato.db"),
            "documents.document_bytes": 1_000,
            "documents.import_bytes": 2_000,
            "limits.body_bytes": 5_000,
        }
    )
    async with open_service(config) as service:
        transport = httpx.ASGITransport(serving_app(config, service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


async def put(client: httpx.AsyncClient, path: str, text: str = "", **more: Json) -> httpx.Response:
    return await client.put(f"{AT}/{path}", json={"text": text, **more})


async def post(client: httpx.AsyncClient, what: str, **body: Json) -> httpx.Response:
    return await client.post(f"/v1/documents/{what}", json=body)


async def send(
    client: httpx.AsyncClient, data: bytes, query: str = "", media: str = "application/zip"
) -> httpx.Response:
    return await client.post(f"/v1/documents/archive{query}", content=data, headers={"content-type": media})


async def paths(client: httpx.AsyncClient, query: str = "") -> list[str]:
    return [one["path"] for one in (await client.get(f"/v1/documents{query}")).json()["data"]]


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_put_makes_a_document_once_and_may_be_repeated(client: httpx.AsyncClient) -> None:
    made = await put(client, "novel/Kapitel%201%20%C3%A9.md", "Drache")
    assert (made.status_code, made.headers["location"]) == (201, f"{AT}/novel/Kapitel%201%20%C3%A9.md")
    again = await put(client, "novel/Kapitel%201%20%C3%A9.md", "Drache")
    assert (again.status_code, again.json()["what"], again.json()["version"]) == (200, None, 1)
    read = (await client.get(made.headers["location"])).json()
    assert (read["path"], read["text"], read["version"]) == ("novel/Kapitel 1 é.md", "Drache", 1)
    assert problem(await put(client, "novel/kapitel%201%20%C3%A9.md", "", new=True)) == (409, "document_exists")


async def test_two_clients_who_write_over_each_other_are_told(client: httpx.AsyncClient) -> None:
    first = (await put(client, "a", "1")).json()["version"]
    second = (await put(client, "a", "2", version=first)).json()["version"]
    late = await put(client, "a", "3", version=first)
    assert problem(late) == (409, "document_changed")
    assert f"at version {second}, not {first}" in late.json()["detail"]
    assert problem(await client.delete(f"{AT}/a?version={first}")) == (409, "document_changed")
    assert (await client.delete(f"{AT}/a?version={second}")).json()["what"] == "deleted"


async def test_an_edit_is_seen_as_a_difference_and_undone(client: httpx.AsyncClient) -> None:
    await put(client, "a", "one\ntwo\n")
    assert problem(await post(client, "edit", path="a", old="zwei", new="")) == (409, "passage_not_found")
    assert problem(await post(client, "edit", path="a", old="o", new="")) == (409, "passage_ambiguous")
    assert (await post(client, "edit", path="a", old="two", new="2")).json()["version"] == 2
    await post(client, "move", path="a", to="b")
    told = (await client.get("/v1/documents/diff/b")).json()
    assert (told["from_version"], told["to_version"]) == (1, 3)
    assert told["diff"] == "--- a (version 1)\n+++ b (version 3)\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    assert (await client.get("/v1/documents/diff/b?from_version=2&to_version=3")).json()["diff"] == ""
    first = (await client.get("/v1/documents/diff/b?to_version=1")).json()
    assert (first["from_version"], first["diff"].count("\n+")) == (None, 3)
    assert (await post(client, "restore", path="b")).json()["what"] == "restored"
    assert (await client.get(f"{AT}/b")).json()["text"] == "one\ntwo\n"
    versions = (await client.get("/v1/documents/versions/b?limit=3")).json()
    assert [one["what"] for one in versions["data"]] == ["restored", "moved", "edited"]
    rest = (await client.get(f"/v1/documents/versions/b?limit=3&before={versions['next']}")).json()
    assert ([one["what"] for one in rest["data"]], rest["next"]) == (["created"], None)
    assert (await client.get(f"{AT}/b?version=2")).json()["text"] == "one\n2\n"


async def test_a_folder_is_deleted_listed_and_brought_back(client: httpx.AsyncClient) -> None:
    for path in ("n/a", "n/m/b", "nn"):
        await put(client, path)
    assert (await client.delete(f"{AT}/n/")).json()["count"] == 2
    assert (await paths(client), await paths(client, "?deleted=1")) == (["nn"], ["n/a", "n/m/b"])
    assert problem(await client.delete(f"{AT}/n/")) == (404, "not_found")
    await post(client, "restore", path="n/")
    assert await paths(client, "?folder=n") == ["n/a", "n/m/b"]


async def test_lists_and_hits_come_in_pages(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await put(client, f"n/{number}", "dragon")
    for base in ("/v1/documents?limit=2", "/v1/documents/search?query=dragon&limit=2"):
        first = (await client.get(base)).json()
        second = (await client.get(f"{base}&before={first['next']}")).json()
        assert [one["path"] for one in first["data"] + second["data"]] == ["n/0", "n/1", "n/2"]
        assert second["next"] is None
    hit = (await client.get("/v1/documents/search?query=dragon")).json()["data"][0]
    assert set(hit) == {"path", "version", "words", "line", "snippet"}
    for query in ("", "?query=", "?query=%21", f"?query={'x' * 401}", "?query=a&limit=51", "?query=a&before=x"):
        assert problem(await client.get(f"/v1/documents/search{query}")) == (422, "invalid_request")


@pytest.mark.parametrize("path", ["a/", "a//b", "..%2Fa", "a%2F%2E%2E%2Fb", "%20a", "a%09b", "a%5Cb", "x" * 201])
async def test_a_path_that_is_none_is_refused_by_every_route(client: httpx.AsyncClient, path: str) -> None:
    assert problem(await client.get(f"{AT}/{path}")) == (422, "path_invalid")
    assert problem(await put(client, path)) == (422, "path_invalid")
    for what in ("versions", "diff"):
        assert problem(await client.get(f"/v1/documents/{what}/{path}")) == (422, "path_invalid")


async def test_a_number_that_no_version_can_have_is_refused(client: httpx.AsyncClient) -> None:
    await put(client, "a", "x")
    for number in (2**53, 2**63, 10**400):
        answer = await post(client, "restore", path="a", to_version=number)
        assert (problem(answer), answer.json()["errors"][0]["path"]) == ((422, "invalid_request"), "/to_version")
        assert problem(await put(client, "a", "y", version=number)) == (422, "invalid_request")
    assert problem(await post(client, "restore", path="a", to_version=2**53 - 1)) == (404, "not_found")


async def test_the_longest_path_that_may_be_fits_into_a_url(client: httpx.AsyncClient) -> None:
    path = "/".join(["é" * 60] * 4) + "/" + "é" * 8
    assert (await put(client, path, "x")).status_code == 201
    assert (await client.get(f"{AT}/{path}")).json()["text"] == "x"


async def test_a_folder_leaves_as_a_zip_file_and_comes_back(client: httpx.AsyncClient) -> None:
    await put(client, "novel/é.md", "Drache")
    await put(client, "other", "x")
    answer = await client.get("/v1/documents/archive?folder=novel")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''novel.zip"
    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == ["novel/é.md"]
    assert problem(await send(client, answer.content)) == (409, "document_exists")
    skipped = (await send(client, answer.content, "?existing=skip")).json()
    assert (skipped["count"], skipped["skipped"]) == (0, [])
    assert (await send(client, answer.content, "?folder=copy")).json()["count"] == 1
    assert await paths(client) == ["copy/novel/é.md", "novel/é.md", "other"]
    assert problem(await client.get("/v1/documents/archive?folder=none")) == (404, "not_found")


async def test_an_empty_workspace_leaves_as_an_empty_zip_file(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/documents/archive")
    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == []


async def test_an_import_has_a_type_and_a_bound_of_its_own(client: httpx.AsyncClient) -> None:
    assert problem(await send(client, b"{}", media="application/json")) == (415, "unsupported_media_type")
    assert problem(await send(client, b"x" * 2_001)) == (413, "body_too_large")
    assert problem(await send(client, b"x" * 1_999)) == (422, "archive_invalid")
    assert problem(await send(client, b"")) == (422, "archive_invalid")
    other = await client.post("/v1/documents/edit", content=b"{}", headers={"content-type": "application/zip"})
    assert problem(other) == (415, "unsupported_media_type")


async def test_a_document_over_the_bound_is_refused_with_the_number(client: httpx.AsyncClient) -> None:
    answer = await put(client, "a", "x" * 1_001)
    assert problem(answer) == (422, "document_too_large")
    assert (answer.json()["limit"], answer.json()["actual"]) == (1_000, 1_001)
    unknown = await put(client, "a", "", versoin=1)
    assert (problem(unknown), unknown.json()["errors"][0]["path"]) == ((422, "invalid_request"), "/versoin")

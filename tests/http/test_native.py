"""The routes of docs/http.md, each asked as a client asks."""

from __future__ import annotations

import hashlib

import httpx
import pytest
from msgspec import UNSET
from tests.http.edge import Edge, FakeOutput, error_with, get, serving, status_of

from legato.core.errors import (
    Conflict,
    InvalidRequest,
    LegatoError,
    NotFound,
    Overloaded,
    ProviderError,
    RowRefused,
    StaleEpoch,
    StoreUnavailable,
)
from legato.core.posts import PatchChat, PostApproval, PostCancel, PostChat, PostedResult, PostToolResults, PostTurn
from legato.core.records import Datum
from legato.http.app import HttpSettings
from legato.http.errors import CODES, SHOWN

pytestmark = pytest.mark.anyio


async def test_a_post_is_202_with_both_turns_and_where_to_follow(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.post("/v1/turns", json={"input": "hi", "turn_id": "mine"})
    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/turns/mine"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"chat", "user_turn", "assistant_turn", "events_url"}
    assert edge.service.posts["mine"][0] == PostTurn(input="hi", turn_id="mine")
    assert edge.service.principals == {"local"}


async def test_the_same_json_value_is_200_and_another_409(edge: Edge) -> None:
    async with edge.client() as client:
        headers = {"Content-Type": "application/json"}
        first = await client.post("/v1/turns", content=b'{"input":"hi","turn_id":"mine"}', headers=headers)
        again = await client.post("/v1/turns", content=b'{ "turn_id":"mine","input":"\\u0068i" }', headers=headers)
        other = await client.post("/v1/turns", content=b'{"input":"ho","turn_id":"mine"}', headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json() == again.json()
    assert other.json()["code"] == "turn_id_reused"


async def test_a_post_without_a_body_is_400(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.post("/v1/turns")
        empty = await client.post("/v1/turns", content=b" ", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
    assert empty.status_code == 400
    assert (answer.json()["line"], answer.json()["column"]) == (1, 1)


async def test_a_cancel_is_202_and_200_once_the_turn_has_ended(edge: Edge) -> None:
    turn = edge.service.turn()
    async with edge.client() as client:
        bare = await client.post("/v1/turns/t1/cancel")
        said = await client.post("/v1/turns/t1/cancel", json={"mode": "now"})
        turn.end()
        late = await client.post("/v1/turns/t1/cancel", json={})
        wrong = await client.post("/v1/turns/t1/cancel", json={"mode": "later"})
        none = await client.post("/v1/turns/t2/cancel")
    assert [one.status_code for one in (bare, said, late, wrong, none)] == [202, 202, 200, 422, 404]
    assert bare.json()["stored"] is True
    assert bare.json()["id"] == "t1"
    assert PostCancel() == PostCancel(mode="now")


YES = {"call_id": "c1", "decision": "approve"}


async def test_an_answer_is_202_with_the_turn_and_asks_the_service_for_the_principal(edge: Edge) -> None:
    edge.service.turn()
    results = [{"call_id": "c1", "output": None}, {"call_id": "c2", "error": "no"}]
    async with edge.client() as client:
        given = await client.post("/v1/turns/t1/tool_results", json={"results": results})
        approved = await client.post("/v1/turns/t1/approvals", json={**YES, "input": {"a": 1}})
        denied = await client.post("/v1/turns/t1/approvals", json={"call_id": "c1", "decision": "deny", "reason": "no"})
    for answer in (given, approved, denied):
        assert (answer.status_code, answer.json()["id"]) == (202, "t1")
        assert answer.headers["cache-control"] == "no-store"
    assert edge.service.calls == [
        (
            "tool_results",
            PostToolResults(results=(PostedResult(call_id="c1", output=None), PostedResult(call_id="c2", error="no"))),
        ),
        ("approve", PostApproval(call_id="c1", decision="approve", input={"a": 1})),
        ("approve", PostApproval(call_id="c1", decision="deny", reason="no")),
    ]
    assert edge.service.principals == {"local"}


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("approvals", {}, "/call_id"),
        ("approvals", {"call_id": "c1"}, "/decision"),
        ("approvals", {**YES, "decision": "maybe"}, "/decision"),
        ("approvals", {**YES, "call_id": "c 1"}, "/call_id"),
        ("approvals", {**YES, "call_id": "c" * 65}, "/call_id"),
        ("approvals", {**YES, "input": [1]}, "/input"),
        ("approvals", {**YES, "reason": "x" * 2001}, "/reason"),
        ("approvals", {**YES, "resaon": "x"}, "/resaon"),
        ("tool_results", {}, "/results"),
        ("tool_results", {"results": []}, "/results"),
        ("tool_results", {"results": [{"call_id": "c", "output": 1}] * 129}, "/results"),
        ("tool_results", {"results": [{"output": 1}]}, "/results/0/call_id"),
        ("tool_results", {"results": [{"call_id": "c", "error": ""}]}, "/results/0/error"),
        ("tool_results", {"results": [{"call_id": "c", "error": "x" * 8193}]}, "/results/0/error"),
        ("tool_results", {"results": [{"call_id": "c", "ouput": 1}]}, "/results/0/ouput"),
        ("tool_results", {"result": []}, "/result"),
    ],
)
async def test_a_wrong_answer_is_422_with_its_place(shared_edge: Edge, path: str, body: object, place: str) -> None:
    asked = len(shared_edge.service.calls)
    async with shared_edge.client() as client:
        answer = await client.post(f"/v1/turns/t1/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["path"] == place
    assert len(shared_edge.service.calls) == asked


@pytest.mark.parametrize("path", ["approvals", "tool_results"])
async def test_an_answer_without_a_body_or_of_a_foreign_form_is_refused(shared_edge: Edge, path: str) -> None:
    async with shared_edge.client() as client:
        empty = await client.post(f"/v1/turns/t1/{path}")
        form = await client.post(f"/v1/turns/t1/{path}", data={"call_id": "c1"})
        read = await client.get(f"/v1/turns/t1/{path}")
    assert [(one.status_code, one.json()["code"]) for one in (empty, form, read)] == [
        (400, "invalid_json"),
        (415, "unsupported_media_type"),
        (405, "method_not_allowed"),
    ]
    assert read.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("no call c1 waits", code="unknown_call"), 404),
        (Conflict("answered otherwise", code="already_answered", turn_id="t1"), 409),
        (Conflict("it ended", code="turn_ended", turn_id="t1"), 409),
        (Conflict("it waits no more", code="call_not_waiting", turn_id="t1"), 409),
        (StoreUnavailable("the store is away"), 503),
    ],
)
async def test_what_an_answer_is_refused_for_is_said_by_its_code(error: LegatoError, status: int) -> None:
    async with serving(service=error_with(error)) as edge, edge.client() as client:
        approved = await client.post("/v1/turns/t1/approvals", json=YES)
        given = await client.post("/v1/turns/t1/tool_results", json={"results": [{"call_id": "c1", "output": 1}]})
    for answer in (approved, given):
        assert (answer.status_code, answer.json()["code"]) == (status, error.code)
        assert ("retry-after" in answer.headers) == (status == 503)


async def test_an_output_is_an_attachment_in_pieces_that_no_browser_runs(edge: Edge) -> None:
    edge.service.turn()
    async with edge.client() as client:
        text = await client.get("/v1/turns/t1/outputs/c1")
        head = await client.head("/v1/turns/t1/outputs/c1")
        none = await client.get("/v1/turns/t2/outputs/c1")
        no_id = await client.get("/v1/turns/t1/outputs/c%201")
    assert (text.status_code, text.content) == (200, b"one two")
    assert text.headers["content-length"] == "7"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.headers["content-disposition"] == "attachment; filename*=UTF-8''l%22o%0Aok-c1.txt"
    assert text.headers["x-content-type-options"] == "nosniff"
    assert text.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "7")
    assert [(one.status_code, one.json()["code"]) for one in (none, no_id)] == [(404, "not_found")] * 2
    assert edge.service.calls[0] == ("output", ("t1", "c1"))


async def test_an_output_that_the_store_cannot_give_to_its_end_is_cut_off_not_completed(edge: Edge) -> None:
    """Its length was said: a client must not take the half for the whole."""
    edge.service.turn()
    edge.service.kept = FakeOutput(b"half", cut=StoreUnavailable("the store is away"))
    async with edge.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/v1/turns/t1/outputs/c1")
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("/v1/turns/t1", ("get", "t1")),
        ("/v1/turns/t1/model_view", ("model_view", None)),
        ("/v1/turns/t1/model_view?round=2", ("model_view", 2)),
        ("/v1/turns/t1/timeline", ("timeline", "t1")),
        ("/v1/chats", ("chats", (50, None))),
        ("/v1/chats?limit=200&before=c%2B9", ("chats", (200, "c+9"))),
        ("/v1/chats/c1", ("chat", "c1")),
        ("/v1/chats/c1/turns", ("turns", (None, 50, None))),
        ("/v1/chats/c1/turns?branch=t1&limit=3&before=t0", ("turns", ("t1", 3, "t0"))),
        ("/v1/chats/c1/turns?tree=1", ("tree", "c1")),
        ("/readyz", ("ready", None)),
    ],
)
async def test_a_get_asks_the_service_for_what_it_names(edge: Edge, target: str, call: tuple[str, object]) -> None:
    edge.service.turn()
    async with edge.client() as client:
        answer = await client.get(target)
        assert answer.status_code == 200
        assert edge.service.calls == [call]
        head = await client.head(target)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    ("target", "path", "message"),
    [
        ("/v1/chats?limit=0", "/limit", "limit: expected `int` >= 1"),
        ("/v1/chats?limit=201", "/limit", "limit: expected `int` <= 200"),
        ("/v1/chats?limit=1e2", "/limit", "limit must be a number from 0 to 2^53, it is '1e2'"),
        ("/v1/chats?limit=", "/limit", "limit must be a number from 0 to 2^53, it is ''"),
        ("/v1/chats?limit=1&limit=2", "/limit", "limit is given twice"),
        ("/v1/chats?limt=1", "/limt", "unknown parameter `limt`, did you mean `limit`?"),
        ("/v1/chats?before=", "/before", "before: expected `str` of length >= 1"),
        ("/v1/chats/c1/turns?tree=yes", "/tree", "tree: invalid enum value 'yes'"),
        ("/v1/chats/c1/turns?tree=1&branch=t1", "/branch", "branch does not go with tree, which is the whole chat"),
        ("/v1/chats/c1/turns?brnch=t1", "/brnch", "unknown parameter `brnch`, did you mean `branch`?"),
        ("/v1/turns/t1/model_view?round=0", "/round", "round: expected `int` >= 1"),
        ("/v1/turns/t1?verbose", "/verbose", "unknown parameter `verbose`"),
        ("/v1/tools?x=1", "/x", "unknown parameter `x`"),
        ("/v1/openapi.json?x=1", "/x", "unknown parameter `x`"),
    ],
)
async def test_a_wrong_parameter_is_422_and_named(shared_edge: Edge, target: str, path: str, message: str) -> None:
    async with shared_edge.client() as client:
        answer = await client.get(target)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"path": path, "message": message}]


async def test_a_chat_is_made_changed_and_removed(edge: Edge) -> None:
    async with edge.client() as client:
        made = await client.post("/v1/chats", json={"title": "T"})
        bare = await client.post("/v1/chats")
        changed = await client.patch("/v1/chats/c1", json={"system": None})
        wrong = await client.patch("/v1/chats/c1", json={"titel": "T"})
        nothing = await client.patch("/v1/chats/c1")
        removed = await client.delete("/v1/chats/c1")
    assert [one.status_code for one in (made, bare, changed, wrong, nothing, removed)] == [201, 201, 200, 422, 400, 204]
    assert made.headers["location"] == "/v1/chats/c2"
    assert removed.content == b""
    patch = PatchChat(system=None)
    assert patch.title is UNSET
    assert edge.service.calls == [
        ("create_chat", PostChat(title="T")),
        ("create_chat", PostChat()),
        ("update_chat", patch),
        ("delete_chat", "c1"),
    ]


async def test_tools_and_models_are_lists(shared_edge: Edge) -> None:
    async with shared_edge.client() as client:
        assert (await client.get("/v1/tools")).json() == {"data": [], "next": None}
        assert (await client.get("/v1/models")).json()["object"] == "list"


async def test_data_is_an_attachment_that_no_browser_runs(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.get("/v1/turns/t1/blocks/0/data")
    assert answer.content == b"<script>"
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%22b%0A.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert answer.headers["etag"] == '"ab"'


async def test_data_of_a_media_type_that_is_none_is_bytes(edge: Edge) -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    edge.service.data = Datum(index=3, media_type="a/b\r\nSet-Cookie: x", sha256=sha256, data=b"x")
    async with edge.client() as client:
        answer = await client.get("/v1/turns/t1/blocks/3/data")
        assert (await client.get("/v1/turns/t1/blocks/x/data")).status_code == 404
        assert (await client.get("/v1/turns/t1/blocks/-1/data")).status_code == 404
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''block-3"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/turns/",
        "/v1/turns/t1/",
        "/v1/turns/a b",
        "/v1/turns/..%2Ft1",
        "/v1/turns/%00",
        "/v1/turns/" + "x" * 65,
        "/v2/turns",
        "/errors/nope",
    ],
)
async def test_what_is_not_there_is_404_in_our_shape(shared_edge: Edge, target: str) -> None:
    async with shared_edge.client() as client:
        answer = await client.get(target)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"
    assert answer.json()["type"] == "/errors/not_found"


async def test_another_method_is_405_and_says_which_there_are(shared_edge: Edge) -> None:
    async with shared_edge.client() as client:
        answer = await client.put("/v1/chats/c1", json={})
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"
        assert (await client.get("/v1/turns")).headers["allow"] == "POST, OPTIONS"
        assert (await client.post("/livez")).status_code == 405
        options = await client.options("/v1/turns")
    assert (options.status_code, options.headers["allow"]) == (204, "POST, OPTIONS")


@pytest.mark.parametrize(
    ("error", "status", "more"),
    [
        (NotFound("there is no turn 'x'"), 404, {}),
        (Conflict("chat is busy", code="chat_busy", turn_id="t9"), 409, {"turn_id": "t9"}),
        (InvalidRequest.at("/model", "no such model", code="unknown_model"), 422, {"code": "unknown_model"}),
        (InvalidRequest.at("/limits/rounds", "9 is over 8", limit=8, actual=9), 422, {"limit": 8, "actual": 9}),
        (Overloaded("busy", code="too_many_turns", retry_after=7, limit=1, actual=1), 503, {"limit": 1}),
        (StoreUnavailable("the store is away"), 503, {"code": "store_unavailable"}),
        (RowRefused("refused", turn_id="t1"), 503, {"code": "persistence_failed"}),
        (StaleEpoch("newer owner", turn_id="t1"), 503, {"code": "stale_epoch"}),
        (ProviderError("it said no", code="provider_rejected"), 502, {"code": "provider_rejected"}),
    ],
)
async def test_what_the_service_raises_is_a_problem_with_its_numbers(
    error: LegatoError, status: int, more: dict[str, object]
) -> None:
    async with serving(service=error_with(error)) as edge, edge.client() as client:
        answer = await client.post("/v1/turns", json={"input": "hi"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert problem["status"] == status
    assert problem["detail"] == error.message
    assert {key: problem[key] for key in more} == more
    if status == 503:
        assert answer.headers["retry-after"] == ("7" if error.code == "too_many_turns" else "1")


async def test_a_refusal_does_not_give_back_all_of_a_long_name(shared_edge: Edge) -> None:
    async with shared_edge.client() as client:
        answer = await client.post("/v1/turns", json={"input": "hi", "modle" + "x" * 1_000_000: 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"].startswith("/modlexxx")
    assert len(answer.content) < 3 * SHOWN


async def test_a_failure_of_ours_is_logged_once_and_says_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    service = error_with(NotFound(""))
    service.broken = KeyError("secret")
    async with serving(service=service) as edge, edge.client() as client:
        answer = await client.get("/v1/turns/t1")
        assert (await client.get("/livez")).status_code == 200
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].exc_info is not None


async def test_a_stream_that_fails_is_cut_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as edge:
        turn = edge.service.turn()
        turn.lines.append(b"no event")
        answer = await edge.ask(get("/v1/turns/t1/events"))
        await edge.quiet()
        assert edge.app.readers.count == 0
    assert status_of(answer) == 200
    assert not answer.endswith(b"0\r\n\r\n")
    assert [record.name for record in caplog.records] == ["legato.http.errors"]


async def test_readiness_goes_off_while_liveness_stays_on() -> None:
    for error in (Overloaded("stopping", code="draining"), StoreUnavailable("away")):
        async with serving(service=error_with(error)) as edge, edge.client() as client:
            assert (await client.get("/livez")).json() == {"status": "ok"}
            assert (await client.get("/readyz")).status_code == 503


async def test_metrics_are_prometheus_text(shared_edge: Edge) -> None:
    async with shared_edge.client() as client:
        await client.get("/nowhere")
        answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'legato_http_problems_total{code="not_found"}' in answer.text


async def test_a_problems_type_leads_to_what_it_means(shared_edge: Edge) -> None:
    async with shared_edge.client() as client:
        for code in CODES.values():
            answer = await client.get(f"/errors/{code.code}")
            assert answer.json() == {"code": code.code, "status": code.status, "title": code.title}


async def test_json_nested_over_the_limit_is_422_with_the_limit() -> None:
    async with serving(HttpSettings(json_depth=3)) as edge, edge.client() as client:
        fits = await client.post("/v1/turns", json={"metadata": {"a": []}})
        deep = await client.post("/v1/turns", json={"metadata": {"a": [[]]}})
    assert fits.status_code == 202
    assert (deep.status_code, deep.json()["code"], deep.json()["limit"]) == (422, "json_too_deep", 3)

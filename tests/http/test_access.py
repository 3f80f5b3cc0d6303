"""Who may ask, and from which page."""

from __future__ import annotations

import pytest
from tests.http.edge import Edge, get, post, serving, status_of

from legato.http.app import HttpSettings

pytestmark = pytest.mark.anyio

ALLOWED = "http://localhost:5173"
SETTINGS = HttpSettings(cors_origins=(ALLOWED,), hosts=("Chat.Example.org",))


def code_of(answer: bytes) -> str:
    return answer.partition(b'"code":"')[2].partition(b'"')[0].decode()


async def ask_with_host(edge: Edge, host: str | None) -> bytes:
    lines = b"" if host is None else f"Host: {host}\r\n".encode("latin-1")
    return await edge.ask(b"GET /livez HTTP/1.1\r\n" + lines + b"Connection: close\r\n\r\n")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8420",
        "localhost.",
        "app.localhost:1",
        "a.b.localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8420",
    ],
)
async def test_loopback_names_are_answered_on_any_port(shared_edge: Edge, host: str) -> None:
    assert status_of(await ask_with_host(shared_edge, host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "localhost.example.org",
        "xlocalhost",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "0.0.0.0",
        "[::2]",
        "::1",
        "localhost:80:80",
        "localhost:x",
        "localhost:",
        "localhost/evil",
        "evil@localhost",
        "localhost, example.org",
        "localhost\r\nHost: localhost",
        "",
        "é",
        ".",
    ],
)
async def test_any_other_host_is_421(shared_edge: Edge, host: str) -> None:
    answer = await ask_with_host(shared_edge, host)
    assert (status_of(answer), code_of(answer)) == (421, "host_refused")


async def test_a_request_without_a_host_is_421(shared_edge: Edge) -> None:
    assert status_of(await shared_edge.ask(b"GET /livez HTTP/1.0\r\n\r\n")) == 421


async def test_a_host_named_in_the_settings_is_answered() -> None:
    async with serving(SETTINGS) as edge:
        assert status_of(await ask_with_host(edge, "chat.example.org:443")) == 200
        assert status_of(await ask_with_host(edge, "x.chat.example.org")) == 421


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-For: 127.0.0.1, ::1",
        "X-Forwarded-For: [::1]:4000, 127.9.9.9:1",
        "X-Forwarded-For: ::ffff:127.0.0.1",
        "X-Forwarded-For:",
        "Forwarded: for=127.0.0.1;proto=https;by=203.0.113.43",
        'Forwarded: For="[::1]:4711"',
        "Forwarded: proto=https;host=example.org",
    ],
)
async def test_a_proxy_of_this_machine_is_let_through(shared_edge: Edge, header: str) -> None:
    assert status_of(await shared_edge.ask(get("/livez", header, "Connection: close"))) == 200


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: 127.0.0.1, 192.0.2.1",
        "X-Forwarded-For: 192.0.2.1, 127.0.0.1",
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.1",
        "X-Forwarded-For: unknown",
        "X-Forwarded-For: localhost",
        "X-Forwarded-For: 10.0.0.1:99",
        "Forwarded: for=192.0.2.60;proto=http",
        "Forwarded: for=127.0.0.1, for=192.0.2.60",
        "Forwarded: proto=http;for = 192.0.2.60",
        'Forwarded: for="[2001:db8::1]:4711"',
        'Forwarded: for="127.0.0.1\\.9"',
        "Forwarded: for=unknown",
        "Forwarded: for=_hidden",
        "Forwarded: for=",
    ],
)
async def test_somebody_from_elsewhere_behind_a_proxy_is_403(shared_edge: Edge, header: str) -> None:
    answer = await shared_edge.ask(get("/livez", header, "Connection: close"))
    assert (status_of(answer), code_of(answer)) == (403, "proxy_without_auth")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8420", "localhost:8420"),
        ("http://LOCALHOST:8420", "localhost:8420"),
        ("http://localhost", "localhost:80"),
        ("http://[::1]:8420", "[::1]:8420"),
        (ALLOWED, "localhost:8420"),
    ],
)
async def test_the_servers_own_pages_and_allowed_ones_may_ask(origin: str, host: str) -> None:
    async with serving(SETTINGS) as edge:
        answer = await edge.ask(get("/livez", f"Origin: {origin}", "Connection: close", host=host))
        assert status_of(answer) == 200
        assert (b"access-control-allow-origin: " + ALLOWED.encode() in answer) is (origin == ALLOWED)
        assert b"access-control-allow-credentials" not in answer
        assert b"vary: origin\r\n" in answer


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "https://localhost:8420",
        "http://localhost:8421",
        "http://127.0.0.1:8420",
        "http://localhost:8420.evil.example",
        "http://localhost:8420@evil.example",
        "http://evil@localhost:8420",
        "http://localhost:8420/",
        "http://localhost:51733",
        "http://localhost:99999",
        f"{ALLOWED}/",
        f"{ALLOWED}\r\nOrigin: https://evil.example",
        "file://",
        "*",
    ],
)
@pytest.mark.parametrize("path", ["/livez", "/v1/turns/t1/events", "/nowhere"])
async def test_a_page_of_another_origin_is_403_on_every_path(origin: str, path: str) -> None:
    async with serving(SETTINGS) as edge:
        answer = await edge.ask(get(path, f"Origin: {origin}", "Connection: close", host="localhost:8420"))
    assert (status_of(answer), code_of(answer)) == (403, "origin_refused")
    assert b"access-control-allow-origin" not in answer
    assert b"vary: origin\r\n" in answer


async def test_a_preflight_says_what_an_allowed_page_may_send() -> None:
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type", "Connection: close")
    async with serving(SETTINGS) as edge:
        answer = await edge.ask(get("/v1/turns", f"Origin: {ALLOWED}", *asked, method="OPTIONS"))
        assert status_of(answer) == 204
        assert b"access-control-allow-origin: http://localhost:5173\r\n" in answer
        assert b"access-control-allow-headers: authorization, content-type, last-event-id, x-api-key\r\n" in answer
        assert b"access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n" in answer
        refused = await edge.ask(get("/v1/turns", "Origin: https://evil.example", *asked, method="OPTIONS"))
        assert status_of(refused) == 403
        assert edge.service.calls == []


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/v1/turns", "PUT", 405),
        ("/v1/turns/none", "GET", 404),
        ("/v1/chats?x=1", "GET", 422),
    ],
)
async def test_an_allowed_page_can_read_errors_too(path: str, method: str, status: int) -> None:
    async with serving(SETTINGS) as edge:
        answer = await edge.ask(get(path, f"Origin: {ALLOWED}", "Connection: close", method=method))
    assert status_of(answer) == status
    assert b"access-control-allow-origin: http://localhost:5173\r\n" in answer
    assert b"access-control-expose-headers: location, retry-after\r\n" in answer


async def test_an_allowed_page_can_read_that_its_body_is_too_large() -> None:
    async with serving(SETTINGS) as edge:
        answer = await edge.ask(post("/v1/turns", b"", "Content-Length: 99999999", f"Origin: {ALLOWED}"))
    assert status_of(answer) == 413
    assert b"access-control-allow-origin: http://localhost:5173\r\n" in answer


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json; x=y",
    ],
)
async def test_a_json_body_is_read(shared_edge: Edge, content_type: str) -> None:
    async with shared_edge.client() as client:
        answer = await client.post("/v1/chats", content=b"{}", headers={"Content-Type": content_type})
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Content-Type: text/plain",),
        ("Content-Type: text/plain; application/json",),
        ("Content-Type: application/x-www-form-urlencoded",),
        ("Content-Type: multipart/form-data; boundary=x",),
        ("Content-Type: application/jsonp",),
        ("Content-Type: application/json; charset=utf-16",),
        ("Content-Type: application/json", "Content-Type: text/plain"),
        ("Content-Type: application/json", "Content-Encoding: gzip"),
        ("Content-Type: application/json", "Content-Encoding: identity, br"),
    ],
)
async def test_a_body_in_another_form_is_415(shared_edge: Edge, headers: tuple[str, ...]) -> None:
    request = get("/v1/chats", *headers, "Content-Length: 2", "Connection: close", method="POST") + b"{}"
    answer = await shared_edge.ask(request)
    assert (status_of(answer), code_of(answer)) == (415, "unsupported_media_type")

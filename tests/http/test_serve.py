"""The order of a server's end, its sockets and its signals."""

from __future__ import annotations

import os
import signal
import socket

import anyio
import pytest
from tests.http.edge import BOUND, Edge, Raw, get, post, serving, status_of

from legato.core.errors import ConfigError, Overloaded
from legato.http.connection import Connection
from legato.serve import bind, url_of

pytestmark = pytest.mark.anyio


async def follow(edge: Edge, turn_id: str = "t1") -> Raw:
    raw = await edge.raw()
    await raw.send(get(f"/v1/turns/{turn_id}/events"))
    await raw.until(b"retry: 1000\n\n")
    return raw


async def stop(edge: Edge) -> None:
    edge.server.stop()
    with anyio.fail_after(BOUND):
        await edge.drained.wait()


async def test_thirty_open_streams_are_closed_cleanly_at_a_stop() -> None:
    async with serving() as edge:
        turn = edge.service.turn()
        turn.start()
        readers = [await follow(edge) for _ in range(30)]
        await turn.until_readers(30)
        await stop(edge)
        for raw in readers:
            assert (await raw.until(b"0\r\n\r\n")).endswith(b"\r\n0\r\n\r\n")
        assert edge.app.readers.count == turn.readers == 0
        assert not turn.cancelled
        edge.may_end.set()
        with anyio.fail_after(BOUND):
            await edge.stopped.wait()


async def test_in_drain_turns_may_be_cancelled_and_readers_are_sent_away_without_a_status() -> None:
    async with serving() as edge:
        edge.service.turn()
        await stop(edge)
        assert await edge.ask(get("/v1/turns/t1/events")) == b""
        assert status_of(await edge.ask(post("/v1/turns/t1/cancel", b"{}", "Connection: close"))) == 202
        streamed = post("/v1/turns", b'{"input":"hi"}', "Accept: text/event-stream", "Connection: close")
        refused = await edge.ask(streamed)
        assert (status_of(refused), b'"code":"draining"' in refused) == (503, True)
        assert b"retry-after: 1\r\n" in refused
        edge.service.broken = Overloaded("the server is stopping", code="draining")
        assert status_of(await edge.ask(get("/readyz", "Connection: close"))) == 503


async def test_an_answer_under_way_is_finished_before_the_end() -> None:
    async with serving() as edge:
        raw = await edge.raw()
        await raw.send(post("/v1/turns", b'{"input":', "Content-Length: 14"))
        await stop(edge)
        edge.may_end.set()
        await raw.send(b'"hi"}')
        assert status_of(await raw.rest()) == 202


async def test_a_reader_that_takes_nothing_does_not_hold_the_end() -> None:
    async with serving() as edge:
        turn = edge.service.turn()
        await follow(edge)
        await turn.until_readers(1)
        turn.say(*(turn.big(seq) for seq in range(1, 201)))
        await stop(edge)
        edge.may_end.set()
        with anyio.fail_after(BOUND):
            await edge.stopped.wait()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_drains_and_the_second_stops_at_once(first: signal.Signals) -> None:
    async with serving() as edge:
        edge.service.turn()
        await follow(edge)
        os.kill(os.getpid(), first)
        with anyio.fail_after(BOUND):
            await edge.drained.wait()
        assert edge.server.forced_by is None
        os.kill(os.getpid(), signal.SIGINT)
        with anyio.fail_after(BOUND):
            await edge.stopped.wait()
        assert not edge.may_end.is_set()
        assert edge.server.forced_by == signal.SIGINT


async def test_the_bytes_of_a_closed_connection_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.01)
    async with serving() as edge:
        raw = await edge.raw()
        await raw.send(b"GET / HT")
        await raw.rest()
        assert edge.server.server_state.connections == set()


def test_a_port_in_use_is_one_clear_sentence() -> None:
    (taken,) = bind("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with taken, pytest.raises(ConfigError, match=f"^port {port} on 127.0.0.1 is in use; .* --port$"):
        bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_others_reach_is_refused_unless_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match=r"others can reach"):
        bind(host, 0)


def test_an_address_that_others_reach_is_bound_if_allowed() -> None:
    (anywhere,) = bind("0.0.0.0", 0, anywhere=True)
    with anywhere:
        assert anywhere.getsockname()[0] == "0.0.0.0"


def test_an_address_that_is_not_this_machines_is_an_error_of_configuration() -> None:
    with pytest.raises(ConfigError, match="cannot be bound"):
        bind("192.0.2.1", 0, anywhere=True)
    with pytest.raises(ConfigError, match="no address of this machine"):
        bind("no host has this name", 0)


def test_localhost_is_bound_at_all_its_addresses_on_one_port() -> None:
    bound = bind("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in bound}) == 1
        assert {one.family for one in bound} <= {socket.AF_INET, socket.AF_INET6}
        assert url_of(bound, "localhost") == f"http://localhost:{bound[0].getsockname()[1]}"
        assert url_of(bound, "::1").startswith("http://[::1]:")
    finally:
        for one in bound:
            one.close()

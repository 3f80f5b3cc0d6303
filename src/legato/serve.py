"""The server's process: its sockets, its signals, and the order of its end.

The first SIGTERM or Ctrl-C drains: readiness goes off and no turn is accepted, every reader is let go with its cursor,
running turns may end, and answers and cancels are still taken meanwhile; then the listeners close. A second signal
stops at once: a turn that is cut is taken up by the next server. ``Deadline`` sees to it that either comes to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address
from types import FrameType
from typing import Final

import anyio
import uvicorn

from legato.core.errors import ConfigError
from legato.deadline import Deadline
from legato.http.app import App
from legato.http.connection import Connection
from legato.signals import heard

# Seconds for answers under way once the listeners are closed, beyond those of the drain; then they are cancelled.
GRACE_SECONDS: Final = 1
# Seconds an idle connection is kept: longer than the pauses of a person reading, shorter than proxies' own limits (60).
KEEP_ALIVE_SECONDS: Final = 30
# Between two looks of uvicorn at the date that it puts into answers.
TICK_SECONDS: Final = 1.0


class Server(uvicorn.Server):
    """One application on its sockets, made inside the loop. ``drain`` lets running turns end: its time bound is its own
    affair; the second signal cancels it. ``ready`` is called once the sockets are listened to. ``deadline`` is told of
    signals."""

    def __init__(
        self,
        app: App,
        *,
        drain: Callable[[], Awaitable[None]],
        ready: Callable[[], None],
        deadline: Deadline | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                # Below it uvicorn logs each request that is not HTTP, which anybody may send; /metrics counts them.
                log_level="error",
                # Paths may carry tickets; what is worth counting is in /metrics.
                access_log=False,
                workers=1,
                # Nobody's word for who asks is taken (http.access).
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._app = app
        self._drain = drain
        self._ready = ready
        self._deadline = deadline
        self._forced = asyncio.Event()
        self._stopping = asyncio.Event()
        self.forced_by: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, hears them while the loop is held, counts any second one, and does not raise them again
        after a clean end."""
        loop = asyncio.get_running_loop()

        def tell(sig: int) -> None:
            if sig in uvicorn.server.HANDLED_SIGNALS:
                if self._deadline is not None:
                    self._deadline.signalled(sig)
                loop.call_soon_threadsafe(self._signalled, sig)

        in_main_thread = threading.current_thread() is threading.main_thread()
        with heard(tell) if in_main_thread else contextlib.nullcontext(), super().capture_signals():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Nothing is left to do; but a signal without a handler would not be heard."""

    def _signalled(self, sig: int) -> None:
        if self.should_exit:
            self.forced_by = sig
            self.force_exit = True
            self._forced.set()
        self.stop()

    def stop(self) -> None:
        """As the first signal does."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which looks ten times a second whether to stop; this one is told."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 10
            with anyio.move_on_after(TICK_SECONDS):
                await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn closes the listeners and waits for open connections before anybody is told to end, and an event
        # stream never ends by itself: so all that first, and its own shutdown after it.
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stop_at_second_signal, tasks.cancel_scope)
                self._app.readers.let_go()
                await self._drain()
                tasks.cancel_scope.cancel()
        finally:
            await super().shutdown(sockets)

    async def _stop_at_second_signal(self, draining: anyio.CancelScope) -> None:
        await self._forced.wait()
        draining.cancel()


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    *,
    drain: Callable[[], Awaitable[None]],
    ready: Callable[[], None],
    deadline: Deadline,
) -> int:
    """Serve until a signal comes, and end in order; one that comes after this ends the process itself. Gives the exit
    code: 0, or 128 plus the signal that forced it."""
    server = Server(app, drain=drain, ready=ready, deadline=deadline)
    await server.serve(sockets=list(sockets))
    if threading.current_thread() is threading.main_thread():
        # uvicorn has put back what was there before it: for Ctrl-C the runner's own, which waits for its tasks.
        for sig in uvicorn.server.HANDLED_SIGNALS:
            signal.signal(sig, signal.SIG_DFL)
    return 0 if server.forced_by is None else 128 + server.forced_by


def bind(host: str, port: int, *, anywhere: bool = False) -> list[socket.socket]:
    """Sockets for every address of ``host``, bound and not yet listened to; port 0 picks one.

    Raises ``ConfigError``: for a port that is taken, and unless ``anywhere`` for an address that is not loopback.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"host {host!r} is no address of this machine: {error.strerror or error}") from error
    addresses = list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))
    for _, address in addresses:
        if not anywhere and not ip_address(address.partition("%")[0]).is_loopback:
            raise ConfigError(
                f"host {host!r} is {address}, which others can reach, and there is no [auth]; use 127.0.0.1, or "
                "--insecure-no-auth with [server] hosts"
            )
    bound: list[socket.socket] = []
    try:
        for family, address in addresses:
            bound.append(_bind(family, address, port))
            port = bound[0].getsockname()[1]
    except OSError as error:
        for one in bound:
            one.close()
        raise ConfigError(_why(error, host, port)) from error
    return bound


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
    except OSError:
        one.close()
        raise
    one.setblocking(False)  # noqa: FBT003 - its only argument
    return one


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what listens there or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is for privileged processes; choose one over 1023 with --port"
    return f"port {port} on {host} cannot be bound: {error.strerror}"


def url_of(sockets: Sequence[socket.socket], host: str) -> str:
    """The URL to say at start."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sockets[0].getsockname()[1]}"

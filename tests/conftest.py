"""What every test may ask for."""

from __future__ import annotations

import gc
import signal

import pytest


def pytest_configure() -> None:
    """A shell that starts the tests in its background has them ignore Ctrl-C, and with them the commands they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Five thousand tests and what they import stay to the end: no collection of garbage need walk them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run as the server does: asyncio on uvloop where there is one."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio", {"use_uvloop": False}
    return "asyncio", {"use_uvloop": True}

"""What the tests that kill servers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.conformance.nursery import Nursery, nursery


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where servers come from."""
    with nursery(tmp_path_factory.mktemp("nursery") / "log") as one:
        yield one

"""The properties again, tried many more times, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = 500
HERE = Path(__file__).parent
PROPERTIES = sorted(path.name for path in HERE.glob("test_*.py") if "@given(" in path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("file", [name for name in PROPERTIES if name != Path(__file__).name])
def test_the_properties_hold_however_often_they_are_tried(file: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--timeout=1500", "-p", "no:cacheprovider", str(HERE / file)],
        env={**os.environ, "LEGATO_TEST_EXAMPLES": str(EXAMPLES)},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout

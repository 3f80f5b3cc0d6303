"""`legato config`: each value and where it came from."""

from __future__ import annotations

import sys
from pathlib import Path

from legato.cli.settings import configured


def run(file: Path | None) -> int:
    config = configured({}, file=file)
    width = max(len(row.key) for row in config.rows())
    for row in config.rows():
        sys.stdout.write(f"{row.key:{width}} = {row.shown}  # {row.source}\n")
    for notice in config.notices:
        sys.stderr.write(f"legato: {notice}\n")
    return 0

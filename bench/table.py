"""Tables for people and JSON files for machines."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from legato.core.blocks import Json

RESULTS = Path(__file__).parent / "results"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "") -> None:
    """Print a table; the first column is what the row is about."""
    table = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # A table that is piped into a file or a log keeps its columns.
    Console(width=max(console.width, 130) if not console.is_terminal else None).print(table)


def keep(name: str, results: Mapping[str, Json]) -> Path:
    """Write ``bench/results/NAME.json`` and say where."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ".gitignore").write_text("*\n")
    path = RESULTS / f"{name}.json"
    about = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode({**about, **results})))
    return path

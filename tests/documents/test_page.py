"""docs/documents.md: its commands are run, its bounds are those of the source."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from tests.docs.pages import fences, rows, text_of
from tests.docs.shell import Shell, desk, server

from legato.core import archives
from legato.core.documents import DEPTH, NAME_BYTES, PATH_BYTES, Bounds
from legato.core.passages import VIEW_BYTES, VIEW_LINES
from legato.core.queries import QUERY_CHARACTERS
from legato.http.errors import CODES
from legato.stores.memory_documents import MemoryDocuments
from legato.stores.pages import MOST_HITS
from legato.tools.document_readings import TREE_LINES
from legato.tools.documents import document_tools

PAGE = "docs/documents.md"


def test_the_page_s_commands_do_what_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (commands,) = (one for one in fences(PAGE, "sh") if "curl" in one.body)
    with desk(tmp_path, {}) as at, server(at, "--documents") as running:
        assert "doc_edit" in running.said[2]
        said = Shell(at, running.url).run(commands.body)
    assert '"path":"copies/novel/chapter 1.md"' in said


def test_every_tool_is_in_the_table_with_its_effect_and_its_arguments() -> None:
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(PAGE, "## The tools")}
    made = {one.spec.name: one for one in document_tools(MemoryDocuments())}
    assert {call.partition("(")[0] for call in shown} == set(made)
    for call, effect in shown.items():
        tool = made[call.partition("(")[0]]
        assert effect == tool.effect
        named = re.findall(r"(\w+)(?:=[^,)]+)?[,)]", call.partition("(")[2])
        assert named == list(tool.spec.input_schema["properties"])


def test_the_bounds_on_the_page_are_those_of_the_source() -> None:
    text = " ".join(text_of(PAGE).split())
    bounds = Bounds()
    for said in (
        f"up to {NAME_BYTES} bytes of UTF-8, a path up to {PATH_BYTES} and {DEPTH} names",
        f"more than {TREE_LINES} lines",
        f"up to {VIEW_LINES:,} lines and {VIEW_BYTES:,} bytes at once",
        f"last {bounds.versions} texts are kept, up to {bounds.version_bytes // 2**20} MiB",
        f"of deleted documents {bounds.deleted:,}",
        f"({QUERY_CHARACTERS} characters)",
        f"Up to {MOST_HITS:,} hits",
        f"{archives.FILES:,}, of them {archives.ENTRIES:,} documents",
        f"unpacked | {archives.UNPACKED // 2**20} MiB",
        f"{bounds.changed:,} documents | 422",
        f"{bounds.documents:,} of one owner",
        f"{bounds.workspace_bytes // 2**20} MiB of one owner",
        f"{bounds.document_bytes // 2**20} MiB a document",
    ):
        assert said in text


def test_every_code_on_the_page_has_its_status() -> None:
    named = re.findall(r"\b(4\d\d) `([a-z_]+)`", text_of(PAGE))
    assert len(named) >= 8
    assert [(code, status) for status, code in named if CODES[code].status != int(status)] == []

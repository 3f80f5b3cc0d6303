"""The six tools as a model calls them, in turns of a real service on a real file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from legato import ToolContext, tool
from legato.compose import open_service
from legato.config import Config, load
from legato.core.blocks import Json, ToolResultBlock
from legato.core.documents import Put
from legato.core.errors import ConfigError, ToolError
from legato.core.events import TurnEnd
from legato.ports import Tool
from legato.runtime.service import TurnService
from legato.stores.memory_documents import MemoryDocuments
from legato.tools.document_readings import TREE_LINES, read_tree, read_view
from legato.tools.documents import DOCUMENT_TOOLS, document_tools

pytestmark = pytest.mark.anyio


def configured(folder: Path, *, tools: bool = True) -> Config:
    return load(flags={"server.db": str(folder / "legato.db"), "documents.tools": tools})


async def played(service: TurnService, *rounds: Sequence[tuple[str, dict[str, Json]]]) -> list[str]:
    """What the model reads of each call, in call order."""
    steps: list[dict[str, Json]] = []
    for calls in rounds:
        steps += [{"tool": name, "input": arguments} for name, arguments in calls]
        steps.append({"end": "calls"})
    script = "\n".join(map(json.dumps, [*steps, {"text": "done"}]))
    turn = await service.start(f"```script\n{script}\n```")
    last = [event async for event in service.follow(turn.id)][-1]
    assert isinstance(last, TurnEnd)
    assert last.status == "complete"
    view = await service.model_view(turn.id)
    return [one.text for one in view.results]


async def test_a_model_writes_reads_edits_finds_and_moves(tmp_path: Path) -> None:
    async with open_service(configured(tmp_path)) as service:
        read = await played(
            service,
            [
                ("doc_create", {"path": "Novel/one.md", "text": "The raven sat.\nThe raven flew.\n"}),
                ("doc_edit", {"path": "novel/ONE.md", "old": "raven sat", "new": "crow sat"}),
                ("doc_view", {"path": "/novel/one.md"}),
            ],
            [("doc_edit", {"path": "novel/one.md", "old": "The", "new": "A"}), ("doc_search", {"query": "crows cro"})],
            [("doc_move", {"path": "novel/", "to": "verse/"})],
            [("doc_tree", {}), ("doc_view", {"path": "verse/one.md", "start": 2}), ("doc_search", {"query": "crow"})],
        )
    assert read == [
        "created Novel/one.md: version 1, 6 words",
        "edited Novel/one.md: version 2, 6 words",
        "Novel/one.md (version 2, 6 words)\n1  The crow sat.\n2  The raven flew.",
        (
            "the passage stands 2 times in 'Novel/one.md', in lines 1, 2; "
            "give more of the text around the one that is meant"
        ),
        "nothing was found for 'crows cro'",
        "moved verse/one.md: version 3, 6 words",
        "workspace (1 document, 6 words)\n└── verse/\n    └── one.md  6 words",
        "verse/one.md (version 3, 6 words), line 2 of 2\n2  The raven flew.",
        "verse/one.md:1  The ⟦crow⟧ sat.",
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("doc_view", {"path": "b"}, "not_found", "there is no document 'b'"),
        ("doc_view", {"path": "n/a", "start": 3}, "tool_error", "start is 3, 'n/a' has 2 lines"),
        ("doc_view", {"path": "n/a", "start": 2, "end": 1}, "tool_error", "end is 1, it must not be before start"),
        ("doc_view", {"path": "n/"}, "path_invalid", "names a folder"),
        ("doc_tree", {"folder": "m"}, "not_found", "there is no folder 'm/'"),
        ("doc_tree", {"folder": "../x"}, "path_invalid", "'..' is no name"),
        ("doc_search", {"query": "?!"}, "invalid_request", "there is no word in it"),
        ("doc_search", {"query": "a", "next": "xx"}, "invalid_request", "expected the `next`"),
        ("doc_create", {"path": "n/a", "text": ""}, "document_exists", "there is a document 'n/a' already"),
        ("doc_edit", {"path": "n/a", "old": "eins zwei", "new": ""}, "passage_not_found", "is\n1: eins zwo"),
        ("doc_move", {"path": "n", "to": "m"}, "not_found", "it is a folder, name it with a slash at the end: 'n/'"),
    ],
)
async def test_a_wrong_call_is_told_what_is_wrong(name: str, arguments: dict[str, Json], code: str, said: str) -> None:
    documents = MemoryDocuments()
    await documents.change("ann", Put(path="n/a", text="eins zwo\nzwei\n"))
    (called,) = (one for one in document_tools(documents) if one.spec.name == name)
    with pytest.raises(ToolError) as error:
        await call(called, arguments)
    assert error.value.code == code
    assert said in error.value.message


async def call(called: Tool, arguments: dict[str, Json], *, key: str = "k") -> Json:
    assert called.check(arguments) is None
    ctx = ToolContext(
        turn_id="t",
        chat_id="c",
        call_id="call",
        principal="ann",
        idempotency_key=key,
        state={},
        emit=lambda _: None,
        cancelled=lambda: False,
    )
    return await called.bind(arguments, ctx)()  # type: ignore[misc]


async def test_a_call_that_a_crash_cut_off_is_settled_by_its_key() -> None:
    documents = MemoryDocuments()
    create = next(one for one in document_tools(documents) if one.spec.name == "doc_create")
    assert create.reconcile is not None
    with pytest.raises(ToolError, match="was not changed"):
        await create.reconcile("k")  # type: ignore[misc]
    did = await call(create, {"path": "a", "text": "x"})
    assert await create.reconcile("k") == did  # type: ignore[misc]
    assert await call(create, {"path": "a", "text": "x"}) == did


def test_reads_are_read_and_share_their_lane_with_the_edits_of_their_document() -> None:
    tools = {one.spec.name: one for one in document_tools(MemoryDocuments())}
    assert tuple(tools) == DOCUMENT_TOOLS
    effects = {name: one.effect for name, one in tools.items()}
    assert effects == {
        **dict.fromkeys(("doc_tree", "doc_view", "doc_search"), "read"),
        **dict.fromkeys(("doc_create", "doc_edit", "doc_move"), "write"),
    }
    lanes = [
        tools["doc_view"].lane({"path": "/novel/\u00c9"}),
        tools["doc_edit"].lane({"path": "Novel/e\u0301", "old": "a", "new": "b"}),
        tools["doc_create"].lane({"path": "novel/\u00e9", "text": ""}),
    ]
    assert len(set(lanes)) == 1
    assert tools["doc_search"].lane({"query": "x"}) is None


async def test_the_tools_are_there_if_asked_for_and_the_demos_give_way(tmp_path: Path) -> None:
    async with open_service(configured(tmp_path)) as service:
        assert tuple(one.name for one in service.tools().data)[:6] == DOCUMENT_TOOLS
    async with open_service(configured(tmp_path, tools=False)) as service:
        assert "doc_edit" not in [one.name for one in service.tools().data]
        assert (await service.documents.page("local", limit=5)).data == ()


async def test_a_users_tool_of_the_same_name_is_an_error_at_start(tmp_path: Path) -> None:
    @tool(effect="read")
    async def doc_view() -> str:
        """Mine."""
        return ""

    with pytest.raises(ConfigError, match="doc_view"):
        async with open_service(configured(tmp_path), tools=[doc_view]):
            pass


async def test_the_output_of_an_edit_is_whole_for_readers(tmp_path: Path) -> None:
    async with open_service(configured(tmp_path)) as service:
        await played(service, [("doc_create", {"path": "a", "text": "x"})])
        (chat,) = (await service.chats()).data
        turns = await service.turns(chat.id)
        (result,) = (one for one in turns.data[-1].blocks if isinstance(one, ToolResultBlock))
    assert result.output["what"] == "created"
    assert result.output["documents"][0]["path"] == "a"


# What a model reads


def tree(*paths: str) -> str:
    return read_tree(
        {"folder": "", "count": len(paths), "documents": [{"path": path, "words": 1_000} for path in paths]}
    )


def test_a_tree_has_folders_first_and_counts_numbers_as_numbers() -> None:
    assert tree("b 10.md", "b 2.md", "z/x.md", "a.md", "z/y/deep.md") == (
        "workspace (5 documents, 5,000 words)\n"
        "├── z/\n"
        "│   ├── y/\n"
        "│   │   └── deep.md  1,000 words\n"
        "│   └── x.md  1,000 words\n"
        "├── a.md  1,000 words\n"
        "├── b 2.md  1,000 words\n"
        "└── b 10.md  1,000 words"
    )
    assert tree() == "the workspace is empty; doc_create makes a document"


def test_a_large_tree_shows_its_deepest_folders_closed() -> None:
    shown = tree(*(f"a/{folder}/{number}.md" for folder in range(20) for number in range(30)), "b.md")
    assert "├── 0/ (30 documents, 30,000 words)" in shown
    assert len(shown.splitlines()) == 23
    flat = tree(*(f"{number}.md" for number in range(1_000)))
    assert len(flat.splitlines()) == TREE_LINES + 2
    assert flat.endswith("[… 600 more lines; name a folder, or search …]")


def test_a_view_says_how_to_read_on() -> None:
    view = {"path": "a", "version": 3, "words": 9, "lines": 12, "start": 9, "end": 10, "cut": False, "text": "x\ny"}
    assert read_view(view) == (
        "a (version 3, 9 words), lines 9 to 10 of 12\n 9  x\n10  y\n"
        "[… lines 11 to 12 left out; doc_view(path, start=11) reads on …]"
    )
    assert read_view({**view, "lines": 0, "start": 1, "end": 0, "text": ""}) == "a (version 3, 9 words)\n[it is empty]"

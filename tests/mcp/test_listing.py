"""What is offered of what a server lists: names, order, bounds, hints."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mcp.house import House, heard, hosting, raw, until

from legato.observability import causes
from legato.tools.mcp.names import offered_name

pytestmark = pytest.mark.anyio


async def test_names_that_do_not_fit_are_made_to_fit_and_stay_apart(tmp_path: Path) -> None:
    async with hosting(raw("odd", tmp_path)) as house:
        names = house.registry.names()
        assert names == (
            "raw__say",
            "raw__ein_sch_ner_Name_e9cafea1",
            offered_name("raw", "a" * 70),
            offered_name("raw", "dots.and/slashes"),
            offered_name("raw", ""),
        )
        assert all(len(name) <= 64 for name in names)
        assert await house.output(names[3], text="hello") == "hello"
        (called,) = heard(tmp_path, "tools/call")
        assert called["params"]["name"] == "dots.and/slashes"
    assert any(one.key == "mcp_tool_left_out:raw:say" for one in causes())


async def test_a_list_that_changes_keeps_its_order_and_what_was_taken_back_can_still_be_called(
    tmp_path: Path,
) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        before = house.registry.names()
        await house.output("raw__grow")
        await until(lambda: "raw__later" in house.registry.names())
        assert house.registry.names() == (*before, "raw__later")
        await house.output("raw__shrink")  # takes "later" back, which stands first at the server
        await until(lambda: house.registry.names() == before)
        assert await house.output("raw__later", text="still") == "still"


async def test_the_order_is_kept_over_a_reconnect(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        before = house.registry.names()
        await house.output("raw__grow")
        await until(lambda: "raw__later" in house.registry.names())
        await house.error("raw__die")
        await house.output("raw__say", text="again")
        assert house.registry.names() == before


async def test_the_order_of_the_servers_is_that_of_the_configuration(tmp_path: Path) -> None:
    slow = raw("normal", tmp_path, name="a", allow=("say",))
    quick = raw("normal", tmp_path, name="b", allow=("say",))
    async with hosting(slow, quick) as house:
        assert house.registry.names() == ("a__say", "b__say")


async def test_allow_and_deny_are_patterns_of_the_servers_own_names(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path, allow=("s*", "die"), deny=("si*", "su*", "shrink"))) as house:
        assert house.registry.names() == ("raw__say", "raw__die")


async def _effects(house: House) -> list[str]:
    tools = [house.registry.get(name) for name in house.registry.names()]
    return [tool.effect for tool in tools if tool is not None]


async def test_hints_count_only_where_they_are_trusted_and_idempotent_is_no_read(tmp_path: Path) -> None:
    async with hosting(raw("hints", tmp_path)) as house:
        assert await _effects(house) == ["write", "write", "write"]
    async with hosting(raw("hints", tmp_path, trust_hints=True)) as house:
        assert await _effects(house) == ["read", "idempotent", "write"]


async def test_needs_approval_is_of_the_tools_that_it_names(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path, needs_approval=("d*",), allow=("say", "die"))) as house:
        tools = [house.registry.get(name) for name in house.registry.names()]
        assert [tool is not None and tool.asks_approval({}) for tool in tools] == [False, True]


async def test_a_server_with_too_many_tools_offers_the_first_of_them(tmp_path: Path) -> None:
    async with hosting(raw("many", tmp_path)) as house:
        assert len(house.registry.names()) == 256
    assert any("more than 256; choose some with allow or deny" in one.message for one in causes())


async def test_a_schema_that_is_too_large_leaves_out_its_tool_only(tmp_path: Path) -> None:
    async with hosting(raw("heavy", tmp_path)) as house:
        assert house.registry.names() == ("raw__say",)
    assert any("its schema has 70024 bytes, limit is 65536" in one.message for one in causes())


async def test_what_a_schema_leaves_open_with_null_is_left_out(tmp_path: Path) -> None:
    async with hosting(raw("nulls", tmp_path)) as house:
        tool = house.registry.get("raw__say")
        assert tool is not None
        assert tool.spec.input_schema == {"type": "object", "properties": {}}
        assert await house.output("raw__say", text="hello") == "hello"


async def test_a_list_without_end_is_read_to_its_bound(tmp_path: Path) -> None:
    async with hosting(raw("endless-list", tmp_path)) as house:
        assert house.status("raw").state == "ready"
        assert len(heard(tmp_path, "tools/list")) == 100


async def test_a_server_without_tools_is_there_and_offers_none(tmp_path: Path) -> None:
    async with hosting(raw("no-tools", tmp_path)) as house:
        assert house.status("raw").state == "ready"
        assert house.registry.names() == ()


async def test_a_server_that_says_all_the_time_that_its_list_changed_is_not_asked_all_the_time(tmp_path: Path) -> None:
    async with hosting(raw("storm", tmp_path)) as house:
        for _ in range(20):
            await house.output("raw__say", text="still there")
        assert len(heard(tmp_path, "tools/list")) <= 3


async def test_arguments_that_cannot_be_right_are_refused_before_the_call(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path)) as house:
        say = house.registry.get("raw__say")
        assert say is not None
        assert say.check({"text": "x"}) is None
        assert say.check({}) == "text is required, and missing"
        assert say.check({"text": 5}) == "text: expected string, got int"


async def test_a_tool_that_was_not_listed_yet_can_be_called_and_is_offered_to_nobody(tmp_path: Path) -> None:
    async with hosting(raw("normal", tmp_path, name="other")) as house:
        assert house.registry.get("other__none") is None
    async with hosting(raw("mute", tmp_path, connect_timeout=0.5)) as house:
        assert house.registry.names() == ()
        assert house.registry.get("raw__say") is not None
        assert "it did not answer within 0.5 s" in await house.error("raw__say")

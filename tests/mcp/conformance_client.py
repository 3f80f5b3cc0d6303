"""The host as the client that ``@modelcontextprotocol/conformance`` asks for: ``conformance_client.py URL``.

It calls what the scenario names, else each tool that is offered, and answers each question with what it must have.
"""

from __future__ import annotations

import json
import os
import sys

import anyio
from tests.mcp.house import House, hosting

from legato.core.blocks import Json
from legato.core.inputs import ToolNeedsInput
from legato.core.records import Answer, Resumed
from legato.tools.mcp.names import offered_name
from legato.tools.mcp.settings import McpServer

EXAMPLES: dict[str, Json] = {"number": 2, "integer": 2, "string": "text", "boolean": True, "array": [], "object": {}}


def fitting(schema: dict[str, Json]) -> dict[str, Json]:
    """The least that fits."""
    properties: dict[str, dict[str, Json]] = schema.get("properties", {})
    return {name: EXAMPLES.get(properties.get(name, {}).get("type", ""), "text") for name in schema.get("required", ())}


async def agree(message: str, input_schema: dict[str, Json] | None) -> Answer:
    return Answer(call_id="call", decision="approve", input=fitting(input_schema or {}))


async def call(house: House, name: str, arguments: dict[str, Json]) -> None:
    end = await house.end(name, arguments, ask=agree)
    for _ in range(10):
        if not isinstance(end, ToolNeedsInput):
            break
        answer = await agree(end.message or "", end.input_schema)
        end = await house.end(name, arguments, ask=agree, resumed=Resumed(state=end.state, answer=answer))
    sys.stderr.write(f"{name}: {end}\n")


async def main() -> None:
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    async with hosting(McpServer(name="c", url=sys.argv[1], timeout=20.0)) as house:
        sys.stderr.write(f"{house.host.status()}\n")
        for one in context.get("toolCalls", ()):
            await call(house, offered_name("c", one["name"]), one.get("arguments", {}))
        for name in () if "toolCalls" in context else house.registry.names():
            tool = house.registry.get(name)
            assert tool is not None
            arguments = fitting(tool.spec.input_schema)
            if name == "c__json_schema_echo":
                focal = house.registry.get(house.registry.names()[0])
                assert focal is not None
                arguments = {"schema": focal.spec.input_schema}
            await call(house, name, arguments)


if __name__ == "__main__":
    anyio.run(main)

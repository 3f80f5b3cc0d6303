# ruff: noqa: T201 - an example prints
"""A turn without HTTP: ``python examples/library.py How warm is it in Oslo?``

The settings are the server's: keys from the environment, ``legato.toml`` in this folder if there is one.
"""

import asyncio
import sys
from typing import Annotated

import legato
from legato import ToolContext, tool
from legato.core.events import BlockDelta, BlockStart, ToolStart, TurnEnd


@tool(effect="read", timeout=20)
async def get_weather(city: Annotated[str, "City"], *, ctx: ToolContext) -> dict:
    """Current weather of a city."""
    await ctx.emit(f"asking the station in {city} …\n")  # readers see it at once, the model never
    return {"city": city, "degrees": 4}


async def main(said: str) -> None:
    async with legato.open("library.db", tools=[get_weather]) as service:
        turn = await service.start(said)
        async for event in service.follow(turn.id):
            match event:
                case BlockStart(block_type=kind):
                    print(f"\n[{kind}]")
                case BlockDelta(text=text):
                    print(text, end="", flush=True)
                case ToolStart(tool_name=name):
                    print(f"\n({name} runs)")
                case TurnEnd(status=status, usage=usage):
                    print(f"\n\n{status}, {usage.output_tokens} tokens out")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "How warm is it in Oslo?"))

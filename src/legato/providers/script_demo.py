"""``script/demo``: a conversation worth watching, made of what the user said and of the tools that exist.

It thinks, talks, calls several tools while it goes on talking, reads what they answered, and ends in a long tail. It
only calls tools whose names say that they look and do not touch: a demonstration changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from legato.core.ask import Ask, SentText, SentToolResult, ToolSpec
from legato.core.blocks import Json, TextBlock
from legato.providers.script import Call, Speech, Step

_LOOKS = re.compile(r"(get|list|search|find|look|read|doc|docs|query|show|check)(_|-|$)|.*_(search|lookup)$")
_NOT = {"read_result"}  # it needs the id of an earlier call
_CALLS = 4
_SEEKS = re.compile(
    r"(?:find|search for|search|look for|look up|where is|where's|where are|fetch|show me|get)\s+(?P<what>.+)",
    re.IGNORECASE,
)
_ASKED_MAX = 200  # characters of the user's words that are said again
_QUOTED_MAX = 160  # characters of a tool's answer that are quoted
_PLACES = ("Oslo", "Lisbon", "Kyoto", "Nairobi")
_DEEP = 4  # levels of a schema that are filled in


def demo(ask: Ask) -> list[Step]:
    asked = _asked(ask)
    results = _results(ask)
    tools = [] if ask.params.tool_choice == "none" else _lookers(ask.tools)
    if ask.round == 1 and tools:
        return _first_round(asked, tools)
    if ask.round == 2 and results and len(tools) > 1:
        return _second_round(asked, results, tools)
    return [*_opening(asked, results), *_tail(asked)]


def _first_round(asked: str, tools: Sequence[ToolSpec]) -> list[Step]:
    places = min(_CALLS, max(2, len(tools)))
    calls = [Call(name=tool.name, arguments=_arguments(tool, asked, n), pace=40) for n, tool in _spread(tools, places)]
    return [
        Speech(
            kind="thinking",
            text=f"They want this: “{asked}”. I have {_names(tools)} at hand. Looking in several places at once costs "
            "no more time than looking in one, so I will ask all of them and keep talking while they work.",
            pace=45,
            signature="demo",
        ),
        Speech(kind="text", text=f"You asked: *{asked}*. I will look in {places} places at once.", pace=30),
        *calls,
        Speech(
            kind="text",
            text="Each of these started the moment its arguments were whole, while this sentence was still on its way. "
            "Watch the timeline: the bars of the tools lie under the text, not behind it.",
            pace=30,
            new=True,
        ),
    ]


def _second_round(asked: str, results: Sequence[SentToolResult], tools: Sequence[ToolSpec]) -> list[Step]:
    last = tools[-1]
    return [
        Speech(kind="thinking", text="They have answered. One more look will settle it.", pace=45, signature="demo"),
        Speech(
            kind="text", text=f"This is what came back:\n\n{_quoted(results)}\n\nOne thing is left to check.", pace=35
        ),
        Call(name=last.name, arguments=_arguments(last, asked, _CALLS), pace=40),
    ]


def _opening(asked: str, results: Sequence[SentToolResult]) -> list[Step]:
    if results:
        thought = "Everything is in. Now say what it comes to, and where to look next."
        text = f"And this:\n\n{_quoted(results)}\n\n"
    else:
        thought = (
            f"They said: “{asked}”. There is no tool here that I may use for it, so I answer from what I am: a script."
        )
        text = f"You said: *{asked}*. "
    return [
        Speech(kind="thinking", text=thought, pace=45, signature="demo"),
        Speech(kind="text", text=text, pace=35),
    ]


def _tail(asked: str) -> list[Step]:
    what = _sought(asked)
    return [
        Speech(
            kind="text",
            text=f"""So, about {what}.

I am the built-in **script** provider: no key, no network, the same words each time. What you are watching is real all
the same. Every word of this is an event with a number; it is stored as it is said, and any number of readers follow it.

Three things to try while I go on:

1. **Reload the page.** The text comes back to the letter, and goes on where it was.
2. **Close the tab, and come back later.** A turn does not need a reader in order to end.
3. **Press stop.** What you saw stays, and the next message knows it.

```python
async with legato.open("legato.db", tools=[get_weather]) as service:
    turn = await service.start("Find the dragon")
    async for event in service.follow(turn.id):
        print(event)
```

""",
            pace=40,
        ),
        Speech(kind="text", text=_story(what), pace=30),
    ]


def _story(what: str) -> str:
    return f"""And since you are still here, a story. They looked for {what} in the usual places first: on the shelf,
behind the shelf, in the catalogue under every letter it could have been filed by. One of them went up the mountain, one
down to the harbour, and one stayed at home to write down what the others found. When the first came back with nothing,
the second was already on the way with half an answer, and the third had joined the two halves before either sat down.

“How did you know where it was,” they asked, “before we had told you?”

“I did not,” said the third. “I only never stopped writing while you were gone.”

That is all there is to it: each note begins before the last has ended, and nothing falls silent between them."""


# ---- what was said


def _asked(ask: Ask) -> str:
    texts = [block.text for block in ask.said if isinstance(block, TextBlock)]
    if not texts:
        texts = [
            block.text
            for message in ask.messages
            if message.role == "user"
            for block in message.blocks
            if isinstance(block, SentText)
        ][-1:]
    return _cut(" ".join(" ".join(texts).split()), _ASKED_MAX) or "nothing yet"


def _sought(asked: str) -> str:
    """What they look for, or else their words themselves."""
    found = _SEEKS.match(asked)
    return found["what"].rstrip(" ?!.") if found is not None and found["what"].strip(" ?!.") else f"“{asked}”"


def _results(ask: Ask) -> list[SentToolResult]:
    if not ask.messages or ask.round == 1:
        return []
    return [block for block in ask.messages[-1].blocks if isinstance(block, SentToolResult)]


def _quoted(results: Sequence[SentToolResult]) -> str:
    return "\n".join(map(_quote, results))


def _quote(result: SentToolResult) -> str:
    said = _cut(" ".join(result.text.split()), _QUOTED_MAX)
    return f"- `{result.tool_name}` {'failed: ' if result.is_error else ''}{said}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# ---- the tools that exist


def _lookers(tools: Sequence[ToolSpec]) -> list[ToolSpec]:
    return [tool for tool in tools if _LOOKS.match(tool.name) and tool.name not in _NOT][:_CALLS]


def _names(tools: Sequence[ToolSpec]) -> str:
    return ", ".join(tool.name for tool in tools)


def _spread(tools: Sequence[ToolSpec], places: int) -> list[tuple[int, ToolSpec]]:
    """As many calls as there are places, each tool in its turn, with how often it was called before."""
    return [(n // len(tools), tools[n % len(tools)]) for n in range(places)]


def _arguments(tool: ToolSpec, asked: str, number: int) -> str:
    return msgspec.json.encode(_object(tool.input_schema, asked, number, _DEEP)).decode()


def _object(schema: dict[str, Json], asked: str, number: int, deep: int) -> dict[str, Json]:
    """The required properties, filled in with what their names and types suggest."""
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list) or deep == 0:
        return {}
    return {
        name: _value(name, properties[name], asked, number, deep)
        for name in properties
        if name in required and isinstance(properties[name], dict)
    }


def _value(name: str, schema: dict[str, Json], asked: str, number: int, deep: int) -> Json:
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[number % len(choices)]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind:
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case "boolean":
            return True
        case "array":
            items = schema.get("items")
            return [_value(name, items, asked, number, deep - 1)] if isinstance(items, dict) and deep else []
        case "object":
            return _object(schema, asked, number, deep - 1)
        case _:
            return (
                _PLACES[number % len(_PLACES)] if re.search("city|place|location|town", name) else _words(asked, number)
            )


def _words(asked: str, number: int) -> str:
    """What they look for, with a word more for each further look, so that no two calls are the same."""
    what = re.sub(r"^(the|a|an)\s+", "", _sought(asked).strip("“”"), flags=re.IGNORECASE)
    return what if number == 0 else f"{what} {('sighting', 'history', 'map', 'legend')[(number - 1) % 4]}"

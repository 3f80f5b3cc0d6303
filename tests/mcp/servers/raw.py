"""A server of 2025-11-25 written line by line, so that it can do what no SDK lets it: ``raw.py MODE``.

What it hears is written to ``heard`` in ``MCP_TEST_FOLDER``, one JSON a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

MODE = sys.argv[1]
FOLDER = Path(os.environ["MCP_TEST_FOLDER"])
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
tools: list[dict[str, Any]] = [
    {"name": name, "description": f"Tool {name}.", "inputSchema": {"type": "object"}}
    for name in (
        "silent",
        "die",
        "garbled",
        "foreign",
        "huge",
        "huge_tail",
        "endless",
        "noise",
        "babble",
        "sulk",
        "ask",
        "grow",
        "shrink",
    )
]
tools.insert(0, {"name": "say", "description": "Say it again.", "inputSchema": TEXT})
waiting: dict[str, Any] = {}


def say(message: dict[str, Any]) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def result(number: object, text: str) -> None:
    say({"id": number, "result": {"content": [{"type": "text", "text": text}]}})


def call(number: Any, name: str, given: dict[str, Any], meta: dict[str, Any]) -> None:
    match name:
        case "say":
            result(number, given.get("text", ""))
        case "die":
            os._exit(7)
        case "garbled":
            write(f'{{"jsonrpc": "2.0", "id": {number}, "result": \n')
        case "foreign":
            say({"id": number, "result": {"content": 5}})
        case "huge":
            write(f'{{"jsonrpc": "2.0", "id": {number}, "result": {{"content": [{{"type": "text", "text": "')
            many("x", given["mebibytes"])
            write('"}]}}\n')
        case "huge_tail":
            write('{"result": {"content": [{"type": "text", "text": "')
            many("x", given["mebibytes"])
            write(f'"}}]}}, "jsonrpc": "2.0", "id": {number}}}\n')
        case "endless":
            many("x", given["mebibytes"])
        case "noise":
            write("loading the model\n\n")
            result(number, "after noise")
        case "babble":
            write(given["line"] * given["times"])
            result(number, "after all that")
        case "ask":
            asked = f"q{number}"
            waiting[asked] = number
            schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
            say(
                {"id": asked, "method": "elicitation/create", "params": {"message": "Size?", "requestedSchema": schema}}
            )
        case "grow":
            tools.insert(0, {"name": "later", "inputSchema": {"type": "object"}})
            say({"method": "notifications/tools/list_changed"})
            result(number, "grown")
        case "shrink":
            del tools[0]
            say({"method": "notifications/tools/list_changed"})
            result(number, "shrunk")
        case "slow":
            for at in range(3):
                params = {"progressToken": meta["progressToken"], "progress": at, "total": 3}
                say({"method": "notifications/progress", "params": params})
        case "sulk":
            time.sleep(3600)
        case "silent":
            pass
        case _:
            result(number, given.get("text", ""))


def many(letter: str, mebibytes: int) -> None:
    for _ in range(mebibytes):
        write(letter * 1024 * 1024)


def listed(cursor: str | None) -> dict[str, Any]:
    match MODE:
        case "wrong-list":
            return {"tools": [{"name": "no-schema"}]}
        case "endless-list":
            return {"tools": [{**tools[0], "name": f"say{cursor}"}], "nextCursor": f"{cursor}x"[:40]}
        case "many":
            return {"tools": [{**tools[0], "name": f"say{number}"} for number in range(300)]}
        case "odd":
            odd = ["say", "ein schöner Name", "a" * 70, "say", "dots.and/slashes", ""]
            return {"tools": [{**tools[0], "name": name} for name in odd]}
        case "heavy":
            return {
                "tools": [tools[0], {**tools[0], "name": "heavy", "inputSchema": {"type": "object", "x": "y" * 70_000}}]
            }
        case "nulls":
            nulls = {"type": "object", "properties": None, "required": None}
            return {"tools": [{**tools[0], "inputSchema": nulls}]}
        case "hints":
            hints = [{"readOnlyHint": True}, {"idempotentHint": True}, {"destructiveHint": False}]
            return {"tools": [{**tools[0], "name": f"say{at}", "annotations": one} for at, one in enumerate(hints)]}
        case _:
            return {"tools": tools}


def answer(message: dict[str, Any]) -> None:
    method, number, params = message.get("method"), message.get("id"), message.get("params") or {}
    if method == "initialize":
        if MODE == "mute":
            return
        capabilities = {} if MODE == "no-tools" else {"tools": {"listChanged": True}}
        info = {"name": "raw", "version": "1"}
        told = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
        say({"id": number, "result": told})
    elif method == "notifications/initialized" and MODE == "storm":
        for _ in range(2_000):
            say({"method": "notifications/tools/list_changed"})
    elif method == "tools/list":
        say({"id": number, "result": listed(params.get("cursor"))})
    elif method == "tools/call":
        call(number, params["name"], params.get("arguments") or {}, params.get("_meta") or {})
    elif method is None and number in waiting:
        result(waiting.pop(number), json.dumps(message.get("result", message.get("error"))))
    elif number is not None and MODE != "mute":
        say({"id": number, "error": {"code": -32601, "message": f"no {method}"}})


def main() -> None:
    FOLDER.joinpath(f"pid.{os.getpid()}").touch()
    if MODE == "no-mcp":
        write("Welcome!\nAt your service.\n")
    if MODE == "exits":
        sys.exit("cannot find the licence")
    if MODE == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with FOLDER.joinpath("heard").open("a") as heard:
        for line in sys.stdin:
            heard.write(line)
            heard.flush()
            if MODE != "no-mcp":
                answer(json.loads(line))
    while MODE == "deaf":
        time.sleep(3600)


if __name__ == "__main__":
    main()

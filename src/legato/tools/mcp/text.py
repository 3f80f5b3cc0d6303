"""What the model reads of a result from MCP: text as text, structured content as JSON, of all else what it is.

The formatter of every such tool that has none of its own (docs/mcp.md).
"""

from __future__ import annotations

import msgspec

from legato.core.blocks import Json
from legato.tools.formatters import plain

VERSION = 1
_COMPARED = 256 * 1024
"""Characters of a text up to which it is looked at whether it says the structured content again."""


def mcp_text(output: Json) -> str:
    if not isinstance(output, dict) or not isinstance(output.get("content"), list):
        return plain(output)
    texts = [_of_block(block) for block in output["content"]]
    if "structuredContent" in output and not _said(output["structuredContent"], texts):
        texts.append(plain(output["structuredContent"]))
    return "\n".join(text for text in texts if text)


def text_alone(output: Json) -> str:
    """What a result says in words; "" where it says nothing."""
    content = output.get("content") if isinstance(output, dict) else None
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def _of_block(block: Json) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image" | "audio" as kind, "data": str(data)}:
            return f"[{kind}: {block.get('mimeType', 'of unknown type')}, {_decoded_size(data)} bytes]"
        case {"type": "resource", "resource": {"text": str(text), "uri": str(uri)}}:
            return f"[resource: {uri}]\n{text}"
        case {"type": "resource", "resource": {"blob": str(data), "uri": str(uri)} as resource}:
            return f"[resource: {uri}, {resource.get('mimeType', 'of unknown type')}, {_decoded_size(data)} bytes]"
        case {"type": "resource_link", "uri": str(uri)}:
            told = [block.get("title") or block.get("name"), block.get("description"), block.get("mimeType")]
            return f"[link: {', '.join([uri, *(str(one) for one in told if one)])}]"
        case _:
            return plain(block)


def _decoded_size(data: str) -> int:
    """Bytes that base64 stands for."""
    return len(data) * 3 // 4 - data[-2:].count("=")


def _said(structured: Json, texts: list[str]) -> bool:
    """Servers put structured content into texts as well, for clients that do not know it (MCP 2025-06-18). Those made
    with the Python SDK wrap what is no object as ``{"result": …}``, and give a list as one text for each of its items.
    """
    bare = structured["result"] if isinstance(structured, dict) and list(structured) == ["result"] else structured
    if isinstance(bare, list) and len(bare) == len(texts) and all(map(_says, texts, bare)):
        return True
    return any(_says(text, structured) or _says(text, bare) for text in texts)


def _says(text: str, value: Json) -> bool:
    if text == value or text == plain(value):
        return True
    if len(text) > _COMPARED or isinstance(value, str):
        return False
    try:
        return bool(msgspec.json.decode(text.encode(errors="replace")) == value)
    except (msgspec.DecodeError, RecursionError):
        return False

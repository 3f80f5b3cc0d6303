"""A chat's turns as a tree: what hangs where, drawn like a log. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from legato.cli.seen import SeenNode


class Tree:
    """The nodes of `?tree=1`, oldest first."""

    def __init__(self, nodes: Sequence[SeenNode]) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.children: dict[str | None, list[SeenNode]] = {}
        for node in nodes:
            above = node.prev_turn_id if node.prev_turn_id in self.nodes else None
            self.children.setdefault(above, []).append(node)

    def leaves(self) -> list[SeenNode]:
        """The ends of all branches, oldest first."""
        return [node for node in self.nodes.values() if node.id not in self.children]

    def branch(self, leaf: str | None) -> list[SeenNode]:
        """From the root to ``leaf``."""
        branch: list[SeenNode] = []
        while leaf is not None and (node := self.nodes.get(leaf)) is not None:
            branch.append(node)
            leaf = node.prev_turn_id
        return branch[::-1]

    def lines(self, *, head: str | None, notes: Mapping[str, str]) -> Iterator[str]:
        """A line each: an only child below its parent, several of them one step further in. ``notes`` is what to say
        beside an id."""
        # A stack, not a call for each turn: a chat may be thousands of turns deep.
        stack: list[tuple[SeenNode, str, str]] = _steps(self.children.get(None, []), "")
        while stack:
            node, mark, below = stack.pop()
            shown = f"{node.id}  {node.role:9}  {node.status:9}  {node.created_at}"
            yield f"{mark}{shown}  {notes.get(node.id, '')}".rstrip() + ("  <- head" if node.id == head else "")
            stack += _steps(self.children.get(node.id, []), below)


def _steps(children: Sequence[SeenNode], indent: str) -> list[tuple[SeenNode, str, str]]:
    """Node, what stands before it, and before what is below it; the first child last, for the stack."""
    if len(children) == 1:
        return [(children[0], indent, indent)]
    steps = [(node, f"{indent}├─ ", f"{indent}│  ") for node in children[:-1]]
    steps += [(node, f"{indent}└─ ", f"{indent}   ") for node in children[-1:]]
    return steps[::-1]

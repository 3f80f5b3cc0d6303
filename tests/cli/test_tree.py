"""A chat's turns as a tree."""

from __future__ import annotations

from legato.cli.seen import SeenNode
from legato.cli.tree import Tree


def node(id: str, prev: str | None) -> SeenNode:
    return SeenNode(id=id, prev_turn_id=prev, role="user", status="complete", created_at="t")


def test_an_only_child_stands_below_its_parent_and_several_one_step_in() -> None:
    nodes = [node("a", None), node("b", "a"), node("c", "b"), node("d", "b"), node("e", "d"), node("f", None)]
    tree = Tree(nodes)
    shown = [line.split("  user")[0] for line in tree.lines(head="e", notes={})]
    assert shown == ["├─ a", "│  b", "│  ├─ c", "│  └─ d", "│     e", "└─ f"]
    assert [leaf.id for leaf in tree.leaves()] == ["c", "e", "f"]
    assert [one.id for one in tree.branch("e")] == ["a", "b", "d", "e"]


def test_the_head_is_marked_and_notes_stand_beside() -> None:
    lines = list(Tree([node("a", None)]).lines(head="a", notes={"a": "hello"}))
    assert lines == ["a  user       complete   t  hello  <- head"]


def test_a_chat_of_thousands_of_turns_is_drawn() -> None:
    nodes = [node("0", None), *(node(str(number), str(number - 1)) for number in range(1, 5000))]
    assert len(list(Tree(nodes).lines(head=None, notes={}))) == 5000


def test_a_turn_whose_parent_is_not_there_is_still_listed() -> None:
    assert [line.split()[0] for line in Tree([node("a", "gone")]).lines(head=None, notes={})] == ["a"]

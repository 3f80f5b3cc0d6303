"""The lock file installs anywhere: it names no registry, and leaves nothing out that the project asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def extras(project: dict[str, Any]) -> list[str]:
    """What the extras ask for; an extra that names others of our own asks for nothing itself."""
    asked = [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    return [one for one in asked if not one.startswith("legato[")]


def test_the_lock_names_no_registry_and_no_path() -> None:
    assert re.findall(r"\S*://\S*|^--.*|^-[ief] .*|\S*/\S*|\bfile:\S*", LOCK, re.MULTILINE) == []


def test_every_locked_package_has_its_version_and_its_hashes() -> None:
    packages = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert [
        one for one in packages if not re.match(r"[a-z0-9-]+==\S+ (; .+ )?\\\n +--hash=sha256:[0-9a-f]{64}", one)
    ] == []


def test_whatever_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *extras(project),
    ]
    locked = set(re.findall(r"^([a-z0-9-]+)==", LOCK, re.MULTILINE))
    assert {canonical(re.split(r"[^A-Za-z0-9_.-]", one)[0]) for one in asked} - locked == set()


def test_no_more_than_a_dozen_packages_are_needed_at_run_time_and_each_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [re.split(r"[^A-Za-z0-9_.-]", one)[0] for one in project["project"]["dependencies"]]
    optional = [re.split(r"[^A-Za-z0-9_.-]", one)[0] for one in extras(project)]
    note = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text(encoding="utf-8")
    assert len(names) <= 12
    assert [name for name in [*names, *optional] if f"| {name} " not in note] == []

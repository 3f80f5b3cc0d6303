"""Write the vectors anew: ``python -m tests.vectors.make``, then read the diff. A vector that changes is a change of
what readers in every language have to do."""

from __future__ import annotations

from inspect import getdoc

from tests.vectors.lives import LIVES
from tests.vectors.vector import HERE, written

from legato.core.fold import fold, squash


def made() -> dict[str, bytes]:
    """Every vector by the name of its file."""
    return {f"{name}.json": _file(name) for name in LIVES}


def _file(name: str) -> bytes:
    events = LIVES[name]()
    about = " ".join((getdoc(LIVES[name]) or "").split())
    return written(name=name, about=about, events=events, merged=squash(events), turn=fold(events))


def main() -> None:
    files = made()
    for old in HERE.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, data in files.items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()

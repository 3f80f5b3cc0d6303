"""A clock that jumps, in place of the machine's (``legato.ports.Clock``).

```python
clock = JumpingClock()
async with legato.open("test.db", clock=clock) as service:
    clock.jump(hours=1)   # the wall clock was set, or the machine slept
    clock.jump(hours=-2)
    clock.skip(29)        # the monotonic clock alone, which never goes back: as if the process had stood still so long
```
One with a ``file`` is shared by all that open it: ``ServerProcess(…, clock=clock)`` runs by it. A program of one's own
does when it is started by ``python -m legato.testing.clock FILE MODULE ARGUMENTS``: as ``python -m MODULE``, with that
clock where Legato would take the machine's. Time limits of turns, tools and providers are counted by the event loop,
which has its own monotonic clock: no jump moves them.
"""

from __future__ import annotations

import mmap
import os
import runpy
import struct
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import legato.clock

_SECONDS: Final = struct.Struct("d")
_WALL: Final = 0
_MONOTONIC: Final = _SECONDS.size
_SIZE: Final = 2 * _SECONDS.size


class JumpingClock:
    """Goes as the machine's clocks do, from where it was put. May be used by any thread, and any process that has the
    ``file``, which is made if it is not there."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._put = _shared(file)

    @property
    def ahead(self) -> float:
        """Seconds by which the wall clock is before the machine's; negative behind it."""
        return self._read(_WALL)

    def jump(self, seconds: float = 0, *, hours: float = 0) -> None:
        """Set the wall clock, forwards or backwards."""
        self._move(_WALL, seconds + hours * 3600)

    def skip(self, seconds: float) -> None:
        """Move the monotonic clock forwards. It does not go back: ``ValueError``."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock never goes back, and was told to by {-seconds:g} s")
        self._move(_MONOTONIC, seconds)

    def now(self) -> str:
        return self.after(0)

    def after(self, seconds: float) -> str:
        moment = datetime.now(UTC) + timedelta(seconds=self._read(_WALL) + seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def monotonic(self) -> float:
        return time.monotonic() + self._read(_MONOTONIC)

    def _read(self, place: int) -> float:
        seconds: float = _SECONDS.unpack_from(self._put, place)[0]
        return seconds

    def _move(self, place: int, seconds: float) -> None:
        _SECONDS.pack_into(self._put, place, self._read(place) + seconds)


def _shared(file: Path | None) -> mmap.mmap:
    """So many seconds from the machine's clocks, the wall's and the monotonic one's: memory that costs no read."""
    if file is None:
        return mmap.mmap(-1, _SIZE)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, _SIZE)
        return mmap.mmap(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: python -m legato.testing.clock FILE MODULE ARGUMENTS")
    _, file, module, *arguments = sys.argv
    # Whoever was given no clock takes this one. Nothing of Legato that does is imported yet.
    setattr(legato.clock, "SystemClock", lambda: JumpingClock(Path(file)))  # noqa: B010  (a type, says mypy)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""``python -m bench``: overlap, then streams in quick mode. The modules by themselves take flags."""

from __future__ import annotations

from bench import overlap, streams

if __name__ == "__main__":
    overlap.main([])
    streams.main(["--quick"])

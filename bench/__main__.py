"""``python -m bench``: overlap, streams in quick mode, stops; all of each with ``--full``. Each alone takes flags."""

from __future__ import annotations

import argparse

from bench import overlap, stops, streams


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the further scenarios, and the streams in full, too")
    asked = parser.parse_args()
    overlap.main([])
    if asked.full:
        overlap.main(["--further"])
    streams.main([] if asked.full else ["--quick"])
    stops.main([] if asked.full else ["--runs", "5"])


if __name__ == "__main__":
    main()

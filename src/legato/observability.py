"""What a server tells about itself: counters, warnings said once for each cause, and log lines.

A leaf: it imports the standard library only, so that runtime, providers, tools, stores, eventlog and http may all use
it. core and ports count nothing and log nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import NamedTuple, TextIO

_PREFIX = "legato_"
# Causes kept, each with its message (about 200 bytes). Names of tools come from outside, so their number is nobody's
# promise; a cause past the bound is counted and no longer logged.
_CAUSES_MAX = 10_000

_Series = tuple[str, tuple[tuple[str, str], ...]]


class Cause(NamedTuple):
    """Something that degraded: what it is called, what was logged the first time, and how often it came."""

    key: str
    message: str
    times: int


class Counters:
    """Numbers by name and labels. Any thread may write; values are exact.

    Names and labels are ours, so they are not checked: lower case, words joined by ``_``, without ``legato_`` and
    ``_total``. A label has few values; an id is never one, for each value is kept until the process ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Series, float] = {}
        self._gauges: dict[_Series, float] = {}
        self._messages: dict[str, str] = {}
        self._times: dict[str, int] = {}

    def count(self, name: str, by: float = 1, /, **labels: str) -> None:
        """Add to what only grows: shown as ``legato_NAME_total``."""
        series = _series(name, labels)
        with self._lock:
            self._counts[series] = self._counts.get(series, 0) + by

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Say what is so at this moment: shown as ``legato_NAME``."""
        with self._lock:
            self._gauges[_series(name, labels)] = value

    def value(self, name: str, /, **labels: str) -> float:
        """Of a counter or a gauge; 0 for what was never counted."""
        series = _series(name, labels)
        with self._lock:
            return self._counts.get(series, self._gauges.get(series, 0))

    def warn_once(self, logger: logging.Logger, cause: str, message: str) -> bool:
        """Count the cause, and log the message the first time. True if it was logged.

        ``cause`` names one thing that degraded in one way: ``formatter_raised:get_weather:KeyError``. What stands
        before the first colon is the kind, and the label of ``legato_warnings_total``.
        """
        with self._lock:
            first = cause not in self._times and len(self._times) < _CAUSES_MAX
            if first:
                self._messages[cause] = message
                self._times[cause] = 0
            if cause in self._times:
                self._times[cause] += 1
        self.count("warnings", kind=cause.partition(":")[0])
        if first:
            logger.warning("%s [%s]", message, cause)
        return first

    def causes(self) -> list[Cause]:
        """All that degraded since the start, in the order of its first time."""
        with self._lock:
            return [Cause(key, self._messages[key], times) for key, times in self._times.items()]

    def exposition(self) -> str:
        """Everything in Prometheus' text format 0.0.4, for ``/metrics``. Causes are comments, ``# cause TIMES KEY``:
        names from outside would make a series each. Their messages are for the log alone."""
        with self._lock:
            counts, gauges, times = dict(self._counts), dict(self._gauges), dict(self._times)
        families = [(f"{_PREFIX}{name}_total", "counter", labels, value) for (name, labels), value in counts.items()]
        families += [(f"{_PREFIX}{name}", "gauge", labels, value) for (name, labels), value in gauges.items()]
        lines: list[str] = []
        said = ""
        for family, kind, labels, value in sorted(families):
            if family != said:
                lines.append(f"# TYPE {family} {kind}")
                said = family
            lines.append(f"{family}{_braced(labels)} {value:.17g}")
        lines += [f"# cause {number} {' '.join(cause.split())}" for cause, number in times.items()]
        return "\n".join(lines) + "\n" if lines else ""


def _series(name: str, labels: dict[str, str]) -> _Series:
    return name, tuple(sorted(labels.items()))


def _braced(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


# Counters belong to the process, as logging's loggers do: what is counted is counted wherever it happens, and one page
# shows it. Tests make their own Counters().
process = Counters()
count = process.count
gauge = process.gauge
warn_once = process.warn_once
causes = process.causes
exposition = process.exposition


class OneLine(logging.Formatter):
    """One record, one line: what came from outside cannot forge a second one.

    On a terminal a traceback keeps its lines, because a person reads it there.
    """

    def __init__(self, *, folded: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")
        self._folded = folded

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return _one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _one_line(text) if self._folded else text


def _one_line(text: str) -> str:
    return text.replace("\r", r"\r").replace("\n", r"\n")


def configure_logging(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Log to stderr, for a server's process. A library never calls this: its user's logging stands.

    Ours is logged from ``level``, everybody else's from WARNING. May be called again; the last call holds.
    """
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    handler.setFormatter(OneLine(folded=not out.isatty()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("legato").setLevel(level)

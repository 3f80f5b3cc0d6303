"""Counters are exact and readable by Prometheus; a cause is said once; a record is one line."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from legato.observability import Counters, configure_logging


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("legato")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_threads_that_count_at_once_lose_nothing() -> None:
    counters = Counters()

    def count_a_thousand() -> None:
        for _ in range(1000):
            counters.count("events")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(count_a_thousand) for _ in range(8)]:
            done.result()
    assert counters.value("events") == 8000


def test_causes_are_comments_of_one_line_each() -> None:
    counters = Counters()
    logger = logging.getLogger("legato.test")
    logger.propagate = False
    for _ in range(2):
        counters.warn_once(logger, "mcp_down:a:it said\nlegato_fake 1", "a secret of the log")
    assert counters.exposition() == (
        "# TYPE legato_warnings_total counter\n"
        'legato_warnings_total{kind="mcp_down"} 2\n'
        "# cause 2 mcp_down:a:it said legato_fake 1\n"
    )


def test_labels_in_any_order_are_one_series() -> None:
    counters = Counters()
    counters.count("calls", tool="a", outcome="ok")
    counters.count("calls", 2, outcome="ok", tool="a")
    assert counters.value("calls", tool="a", outcome="ok") == 3


def test_the_exposition_is_what_prometheus_reads() -> None:
    counters = Counters()
    counters.count("calls", tool='say "hi"\n\\', outcome="ok")
    counters.count("calls", 2, tool="b", outcome="ok")
    counters.count("bytes", 12345678901)
    counters.gauge("running_turns", 3)
    assert counters.exposition() == (
        "# TYPE legato_bytes_total counter\n"
        "legato_bytes_total 12345678901\n"
        "# TYPE legato_calls_total counter\n"
        'legato_calls_total{outcome="ok",tool="b"} 2\n'
        'legato_calls_total{outcome="ok",tool="say \\"hi\\"\\n\\\\"} 1\n'
        "# TYPE legato_running_turns gauge\n"
        "legato_running_turns 3\n"
    )


def test_nothing_counted_is_an_empty_page() -> None:
    assert Counters().exposition() == ""


def test_a_cause_is_logged_once_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    logger = logging.getLogger("legato.test")
    said = [counters.warn_once(logger, "formatter_raised:get_weather", f"it raised, {n}") for n in range(3)]
    counters.warn_once(logger, "formatter_raised:doc_view", "another")
    assert said == [True, False, False]
    assert [record.message for record in caplog.records] == [
        "it raised, 0 [formatter_raised:get_weather]",
        "another [formatter_raised:doc_view]",
    ]
    assert counters.value("warnings", kind="formatter_raised") == 4
    assert [(cause.key, cause.message, cause.times) for cause in counters.causes()] == [
        ("formatter_raised:get_weather", "it raised, 0", 3),
        ("formatter_raised:doc_view", "another", 1),
    ]


def test_causes_past_the_bound_are_counted_and_no_longer_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("legato.observability._CAUSES_MAX", 2)
    counters = Counters()
    for n in range(5):
        counters.warn_once(logging.getLogger("legato.test"), f"odd:{n}", "odd")
    assert counters.value("warnings", kind="odd") == 5
    assert len(counters.causes()) == len(caplog.records) == 2


@pytest.mark.usefixtures("restored_logging")
def test_a_record_with_line_breaks_and_a_traceback_is_one_line() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("legato.tool").exception("it said\r\n2026-11-24 ERROR forged")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert r"legato.tool: it said\r\n2026-11-24 ERROR forged\nTraceback" in lines[0]


@pytest.mark.usefixtures("restored_logging")
def test_a_traceback_keeps_its_lines_on_a_terminal_and_the_message_stays_one() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logging(stream=stream)
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("legato.tool").exception("it said\nmore")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith(r"it said\nmore")
    assert lines[1].startswith("Traceback")


@pytest.mark.usefixtures("restored_logging")
def test_ours_is_logged_from_info_and_others_from_warning() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    configure_logging(stream=stream)
    logging.getLogger("legato.http").info("ours")
    logging.getLogger("aiohttp").info("theirs")
    assert stream.getvalue().count("\n") == 1
    assert "legato.http: ours" in stream.getvalue()

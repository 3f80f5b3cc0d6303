"""What a server has counted, in words: `/metrics` read back, each counter and each cause that says something went
otherwise than it was meant to.

Every counter and gauge of the product is in one of these tables; a test reads the source for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from legato.core.ailments import Ailment

Level: TypeAlias = Literal["degraded", "counted"]

# About what, how bad, and what it means that it is not zero.
COUNTERS: Final = MappingProxyType[str, tuple[str, Level, str]](
    {
        "early_start_off": (
            "tools",
            "degraded",
            "no longer started early: its provider changed a call after its start",
        ),
        "formatter_default": ("formatters", "counted", "results read in the default form"),
        "formatter_fallbacks": (
            "formatters",
            "degraded",
            "results read in the default form, since the formatter failed",
        ),
        "http_problems": ("requests", "counted", "requests refused"),
        "journal_broken": ("store", "degraded", "writes that broke here, and cost their turns; the log says how"),
        "journal_rows_refused": ("store", "degraded", "turns that the store refused, and that ended for it"),
        "journal_write_retries": ("store", "counted", "writes tried again"),
        "lease_retries": ("store", "counted", "renewals of the lease asked for again"),
        "leases_lost": ("turns", "counted", "turns let go of, since the lease could not be renewed in time"),
        "looks_broken": ("turns", "degraded", "looks for turns to take up that broke; the log says how"),
        "prompt_prefix_changed": (
            "requests",
            "degraded",
            "requests that did not begin with the one before: caches lost",
        ),
        "provider_failures": ("providers", "counted", "requests to a provider that failed"),
        "provider_slowed": ("providers", "counted", "providers made to wait, since what was said was not stored yet"),
        "provider_stalls": ("providers", "counted", "providers that were silent for too long"),
        "readers_stalled": ("readers", "counted", "readers let go of, since they took nothing"),
        "requests_broken": ("requests", "degraded", "requests to a model that broke here; the log says how"),
        "spool_drained_writes": ("spool", "counted", "writes given to the store from the spool"),
        "spool_failures": ("spool", "degraded", "writes that neither the store nor the spool took"),
        "spool_refused": ("spool", "degraded", "turns of the spool that the store refused"),
        "spool_torn": ("spool", "degraded", "files of the spool that end in half a record"),
        "spooled_writes": ("spool", "counted", "writes that went to the spool"),
        "take_up_retries": ("turns", "counted", "turns that could not be taken up at the first try"),
        "tool_output_retries": ("tools", "counted", "pieces of a large output stored again"),
        "tool_outputs_cut": ("tools", "degraded", "large outputs cut for good, since they could not be kept"),
        "tool_places_waited": ("tools", "counted", "calls that waited until fewer ran"),
        "tool_retries": ("tools", "counted", "calls run again after a failure"),
        "tool_tasks_abandoned": ("tools", "degraded", "calls that did not stop, and were left behind"),
        "tool_text_cut": ("tools", "counted", "calls whose shown text was cut"),
        "tool_threads_abandoned": ("tools", "degraded", "calls in a thread that did not stop, and were left behind"),
        "tool_threads_waited": ("tools", "counted", "calls that waited for a thread"),
        "turns_broken": ("turns", "degraded", "turns that broke here; the log says how"),
        "turns_interrupted": ("turns", "counted", "turns ended, since they could not go on after a crash"),
        "turns_recovered": ("turns", "counted", "turns gone on with after a crash"),
        "unstored_end_retries": ("store", "counted", "ends of turns tried again"),
    }
)
GAUGES: Final = MappingProxyType[str, tuple[str, Level, str]](
    {
        "spool_files": ("spool", "degraded", "files that the store has yet to take"),
        "tool_places_waiting": ("tools", "counted", "calls that wait until fewer run"),
        "tool_threads_left_behind": ("tools", "degraded", "threads left behind: their tools do not end"),
        "tool_threads_waiting": ("tools", "counted", "calls that wait for a thread"),
    }
)
# Whether it is well stands in a label, or its figure says nothing about that.
JUDGED: Final = frozenset({"store_commits", "tool_results", "mcp_up"})
ORDINARY: Final = frozenset(
    {
        "mcp_connections",
        "readers",
        "tool_deferred",
        "tool_reconciled",
        "tool_threads_busy",
        "tool_threads_places",
        "warnings",
    }
)
KINDS: Final = MappingProxyType(
    {
        "approval_failed": ("tools", "needs_approval raised, and a person is asked"),
        "default_model": ("models", "is the default and cannot be asked: turns that name no model are refused"),
        "files_left_out": ("models", "files were left out, since the model takes none"),
        "formatter_failed": ("formatters", "a formatter failed; the default form is read"),
        "formatter_missing": ("formatters", "there is no formatter; the default form is read"),
        "formatter_without_tool": ("formatters", "a formatter has no tool, and never fires"),
        "images_left_out": ("models", "images were left out, since the model takes none"),
        "lane_failed": ("tools", "lane failed, and the call has its own"),
        "mcp_down": ("mcp", "was down"),
        "mcp_list": ("mcp", "its list of tools is not as it should be"),
        "mcp_question": ("mcp", "it asks what nobody can be asked"),
        "mcp_tool_left_out": ("mcp", "a tool is left out"),
        "output_not_kept": ("tools", "a large output was cut for good"),
        "param_dropped": ("models", "a parameter was dropped"),
        "spool_hangs": ("spool", "its disk does not answer"),
        "spool_unreadable": ("spool", "its folder cannot be read"),
        "store_chore": ("store", "ended turns stay unpacked"),
        "tool_hidden": ("tools", "another tool has that name, and hides it"),
        "tool_places_full": ("tools", "as many calls ran at once as may"),
        "tool_threads_full": ("tools", "no thread was free"),
        "tools_left_out": ("models", "tools were left out, since the model calls none"),
        "unknown_model": ("models", "was asked, and is in no table: its limits and prices are unknown"),
    }
)

_SERIES = re.compile(r"legato_(?P<name>\w+?)(?P<total>_total)?(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_CAUSE = re.compile(r"# cause (?P<times>\d+) (?P<key>.*)")


class Series(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def read_metrics(page: str) -> tuple[list[Series], dict[str, int]]:
    """The series of an exposition, and how often each cause came. What is not ours is left out."""
    series: list[Series] = []
    causes: dict[str, int] = {}
    for line in page.splitlines():
        if (cause := _CAUSE.fullmatch(line)) is not None:
            causes[cause["key"]] = int(cause["times"])
        elif (found := _SERIES.fullmatch(line)) is not None:
            labels = {name: value.replace(r"\"", '"') for name, value in _LABEL.findall(found["labels"] or "")}
            series.append(Series(found["name"], labels, float(found["value"])))
    return series, causes


def in_words(page: str) -> Iterator[Ailment]:
    """Of a server's `/metrics`; everything is since its start, but what is said to be so now."""
    series, causes = read_metrics(page)
    for one in series:
        if (said := _judged(one)) is not None:
            yield said
    down = {one.labels.get("server") for one in series if one.name == "mcp_up" and not one.value}
    for key, times in causes.items():
        kind, _, what = key.partition(":")
        about, words = KINDS.get(kind, ("server", kind.replace("_", " ")))
        # A server of MCP that is up again is well; that it is down its gauge says.
        level: Level = "degraded" if kind != "mcp_down" or what.partition(":")[0] in down else "counted"
        yield Ailment(level=level, about=about, message=f"{what or kind}: {words}, {_times(times)}")


def _judged(one: Series) -> Ailment | None:
    if one.name == "mcp_up":
        name = one.labels.get("server", "?")
        return None if one.value else Ailment(level="degraded", about="mcp", message=f"server {name} is down")
    if not one.value:
        return None
    if one.name in JUDGED:
        outcome = one.labels.get("outcome", "ok")
        if outcome == "ok":
            return None
        about, what = ("store", "groups") if one.name == "store_commits" else ("tools", "calls")
        whose = "" if "tool" not in one.labels else f" of {one.labels['tool']}"
        return Ailment(level="counted", about=about, message=f"{one.value:,.0f} {what}{whose}: {outcome}")
    found = COUNTERS.get(one.name) or GAUGES.get(one.name)
    if found is None:
        return None
    about, level, words = found
    which = ", ".join(f"{name} {value}" for name, value in sorted(one.labels.items()))
    return Ailment(level=level, about=about, message=f"{one.value:,.0f} {words}{f' ({which})' if which else ''}")


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times:,} times"

"""Random but well-formed lives of a turn: what a model says, what tools do, what people and clocks do meanwhile.

A ``Life`` is data; ``tests.core.drive`` plays it. Whatever a strategy here makes, a decoder, a tool or a person could
really have done; inputs that nobody could do are in test_fuzz.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from msgspec.json import encode as json

from legato.core import inputs as i
from legato.core.blocks import CallError, Citation, Json, Outcome
from legato.core.events import ErrorInfo, StopReason
from legato.core.plan import TurnLimits
from legato.core.schedule import ToolRule
from legato.core.usage import Usage


def _picky(input: dict[str, Json]) -> str | None:
    return "n must not be 13" if input.get("n") == 13 else None


def _lane_by_place(input: dict[str, Json]) -> str | None:
    return f"place-{input.get('n', 0)}"


TOOLS: dict[str, ToolRule] = {
    "look": ToolRule(effect="read"),
    "look_picky": ToolRule(effect="read", check=_picky),
    "look_lane": ToolRule(effect="read", lane=lambda _: "b"),
    "put": ToolRule(effect="idempotent"),
    "put_place": ToolRule(effect="idempotent", lane=_lane_by_place),
    "post": ToolRule(effect="write"),
    "post_b": ToolRule(effect="write", lane=lambda _: "b"),
    "post_picky": ToolRule(effect="write", check=_picky),
    "eager_put": ToolRule(effect="idempotent", eager=True),
    "eager_post_b": ToolRule(effect="write", eager=True, lane=lambda _: "b"),
}
PATIENT_TOOLS: dict[str, ToolRule] = {
    **TOOLS,
    "ask_first": ToolRule(effect="write", asks_approval=lambda _: True),
    "ask_look": ToolRule(effect="read", asks_approval=lambda given: given.get("n") != 0, check=_picky),
}
"""With those whose calls may wait for a person."""
CLIENT_TOOL = "pick"
UNKNOWN_TOOL = "nobody"

RETRYABLE = ErrorInfo(code="overloaded", message="the provider is overloaded", retryable=True)
FATAL = ErrorInfo(code="provider_refused", message="the provider refused the request")


@dataclass(frozen=True)
class Ending:
    """How a tool's run ends."""

    outcome: Outcome
    output: Json = None


@dataclass(frozen=True)
class Life:
    """``responses`` are used up one for each request; a request past the last is answered with a plain end.

    ``choices`` say whose turn it is at each step: the model's next word, a stored intent, a tool's text or its end.
    ``interruptions`` are what people and clocks do, each before its step.
    """

    limits: TurnLimits
    tools: tuple[str, ...]
    responses: tuple[tuple[i.ProviderInput, ...], ...]
    choices: tuple[int, ...]
    endings: tuple[Ending, ...]
    interruptions: tuple[tuple[int, i.Input], ...] = ()

    def undisturbed(self) -> Life:
        return replace(self, interruptions=())


# Text as vendors send it: words, emoji whole and torn, NUL, nothing at all.
_pieces = st.sampled_from(
    [
        "a",
        "Hello ",
        "wörld",
        "\n",
        " ",
        "",
        "🐉",
        "👩\u200d🚀 ",
        "\0",
        "\ud83d",
        "\ude00",
        "\ud83d\ude00",
        '"\\',
        "\u2028",
        "漢",
    ]
)
_texts = st.lists(_pieces, max_size=5)
_numbers = st.sampled_from([0, 1, 13, -7, 2**60])
_inputs = st.one_of(
    st.just({}),
    st.builds(lambda n: {"n": n}, _numbers),
    st.builds(lambda n, text: {"n": n, "where": {"names": [text, None, True, 1.5]}}, _numbers, st.sampled_from("å🐉x")),
)
_ARGUMENTS_BAD = ('{"n":', '{"n":1}}', "[1]", "null", '{"n":1} x', "{'n':1}", "  ", '{"n":NaN}', '{"n":"' + "x" * 60)

_usages = st.builds(
    lambda given, read: Usage(input_tokens=given, output_tokens=read, source="reported"),
    st.integers(0, 50),
    st.one_of(st.none(), st.integers(0, 50)),
)


@st.composite
def _text_block(draw: st.DrawFn, key: int) -> list[i.ProviderInput]:
    citations = draw(st.sampled_from([False, False, True]))
    closed = i.BlockClosed(key=key)
    if citations:
        closed = i.BlockClosed(key=key, citations=(Citation(url="https://example.org", title=None, start=0, end=1),))
    return [i.BlockOpened(key=key, block_type="text"), *[i.Delta(key, text) for text in draw(_texts)], closed]


@st.composite
def _thinking_block(draw: st.DrawFn, key: int) -> list[i.ProviderInput]:
    closed = draw(
        st.sampled_from(
            [
                i.BlockClosed(key=key),
                i.BlockClosed(key=key, signature="sig-é"),
                i.BlockClosed(key=key, redacted=True, provider_data={"wire": {"data": "zzz"}}),
            ]
        )
    )
    return [i.BlockOpened(key=key, block_type="thinking"), *[i.Delta(key, text) for text in draw(_texts)], closed]


def _cut_up(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@st.composite
def _call(draw: st.DrawFn, key: int, *, patient: bool) -> list[i.ProviderInput]:
    patiently = [*PATIENT_TOOLS, "ask_first", "ask_look", CLIENT_TOOL, CLIENT_TOOL] if patient else []
    name = draw(st.sampled_from([*TOOLS, *TOOLS, *patiently, UNKNOWN_TOOL]))
    closed = i.BlockClosed(key=key, provider_data={"wire": {"id": draw(st.sampled_from(["", "toolu_1", "toolu_2"]))}})
    way = draw(st.sampled_from(["streamed", "streamed", "streamed", "at once", "nothing", "bad"]))
    if way == "at once":
        return [i.BlockOpened(key=key, block_type="tool_use", tool_name=name, input=draw(_inputs)), closed]
    raw = {"nothing": "", "bad": draw(st.sampled_from(_ARGUMENTS_BAD))}.get(way) if way != "streamed" else None
    if raw is None:
        raw = json(draw(_inputs)).decode()
    deltas = [i.Delta(key, piece) for piece in _cut_up(raw, draw(st.integers(1, 12)))]
    call: list[i.ProviderInput] = [i.BlockOpened(key=key, block_type="tool_use", tool_name=name), *deltas, closed]
    if draw(st.integers(0, 9)) == 0:
        call.append(i.CallPoisoned(key=key, message="the name changed"))
    return call


@st.composite
def _provider_call(draw: st.DrawFn, key: int) -> list[i.ProviderInput]:
    """A call that the provider answers itself, its result perhaps in a later response."""
    number = draw(st.integers(0, 2))
    use: list[i.ProviderInput] = [
        i.BlockOpened(
            key=key, block_type="tool_use", tool_name="web", origin="provider", provider_call_id=f"srv_{number}"
        ),
        i.Delta(key, '{"q":1}'),
        i.BlockClosed(key=key),
    ]
    return use + draw(_provider_result(key + 1, number)) if draw(st.booleans()) else use


@st.composite
def _provider_result(draw: st.DrawFn, key: int, number: int | None = None) -> list[i.ProviderInput]:
    number = draw(st.integers(0, 2)) if number is None else number
    return [
        i.BlockOpened(
            key=key, block_type="tool_result", tool_name="web", origin="provider", provider_call_id=f"srv_{number}"
        ),
        draw(
            st.sampled_from(
                [
                    i.BlockClosed(key=key, output=[{"title": "å"}], provider_data={"wire": {"x": 1}}),
                    i.BlockClosed(key=key, output=None, error=CallError("too_many", "no more searches")),
                ]
            )
        ),
    ]


@st.composite
def _other_block(draw: st.DrawFn, key: int) -> list[i.ProviderInput]:
    if draw(st.booleans()):
        closed = i.BlockClosed(key=key, provider_data={"wire": {"kind": "new", "n": [1, None]}})
        return [i.BlockOpened(key=key, block_type="opaque"), closed]
    closed = i.BlockClosed(key=key, media_type="image/png", url="https://example.org/a.png")
    return [i.BlockOpened(key=key, block_type="image"), closed]


@st.composite
def _blocks(draw: st.DrawFn, *, patient: bool) -> list[i.ProviderInput]:
    """The blocks of one response: one after another, or interleaved."""
    usual = ["text", "text", "thinking", "call", "call", "call", "provider", "result", "other"]
    kinds = draw(
        st.lists(st.sampled_from([*usual, *["call"] * 20] if patient else usual), min_size=int(patient), max_size=5)
    )
    made: dict[str, Callable[[int], st.SearchStrategy[list[i.ProviderInput]]]] = {
        "text": _text_block,
        "thinking": _thinking_block,
        "call": partial(_call, patient=patient),
        "provider": _provider_call,
        "result": _provider_result,
        "other": _other_block,
    }
    queues = [draw(made[kind](10 * place)) for place, kind in enumerate(kinds)]
    if not draw(st.booleans()):
        return [said for queue in queues for said in queue]
    mixed: list[i.ProviderInput] = []
    while queues:
        queue = queues[draw(st.integers(0, min(1, len(queues) - 1)))]
        mixed.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return mixed


_reasons: st.SearchStrategy[StopReason] = st.sampled_from(
    ["end", "calls", "calls", "calls", "pause", "length", "refusal", "other"]
)


@st.composite
def responses(draw: st.DrawFn, *, patient: bool = False) -> tuple[i.ProviderInput, ...]:
    """One response, to its end or broken off anywhere."""
    said = draw(_blocks(patient=patient))
    if draw(st.booleans()):
        said.insert(draw(st.integers(0, len(said))), i.UsageReported(usage=draw(_usages)))
    how = draw(st.sampled_from(["ended", "ended", "ended", "ended inside", "failed", "failed at once"]))
    if how == "failed at once":
        said = []
    elif how != "ended":
        said = said[: draw(st.integers(0, len(said)))]
    if how in ("ended", "ended inside"):
        reason: StopReason = draw(st.one_of(st.just("calls"), _reasons) if patient else _reasons)
        return (*said, i.ResponseEnded(stop_reason=reason, provider_reason="because"))
    error = draw(st.sampled_from([RETRYABLE, RETRYABLE, FATAL]))
    return (*said, i.ResponseFailed(error=error, retry_after=draw(st.sampled_from([None, 2.5]))))


_limits = st.builds(
    TurnLimits,
    rounds=st.integers(1, 5),
    calls_per_round=st.sampled_from([1, 2, 128]),
    parallel_calls=st.sampled_from([1, 2, 16]),
    blocks=st.sampled_from([3, 8, 2_000, 2_000, 2_000]),
    argument_bytes=st.sampled_from([20, 1_000_000, 1_000_000]),
    retries=st.integers(0, 2),
)
_endings = st.lists(
    st.sampled_from(
        [
            Ending("ok", {"answer": ["å", 1, None]}),
            Ending("ok", "text é🐉"),
            Ending("ok"),
            Ending("error"),
            Ending("timeout"),
            Ending("unknown"),
        ]
    ),
    max_size=4,
)
interruptions: st.SearchStrategy[i.Input] = st.sampled_from(
    [
        i.CancelRequested(),
        i.TimeUp(kind="soft"),
        i.TimeUp(kind="soft"),
        i.TimeUp(kind="hard"),
        i.Noted(code="dropped", message="temperature\0"),
    ]
)


@st.composite
def lives(draw: st.DrawFn, *, disturbed: bool = True, patient: bool = False) -> Life:
    """``patient``: some calls wait for people and clients."""
    known = PATIENT_TOOLS if patient else TOOLS
    tools = tuple(known) if draw(st.integers(0, 7)) else ()
    return Life(
        limits=draw(_limits),
        tools=tools,
        responses=tuple(draw(st.lists(responses(patient=patient), min_size=1, max_size=4))),
        choices=tuple(draw(st.lists(st.integers(0, 7), max_size=40))),
        endings=tuple(draw(_endings)),
        interruptions=tuple(draw(st.lists(st.tuples(st.integers(0, 40), interruptions), max_size=2)))
        if disturbed and draw(st.booleans())
        else (),
    )


def _busy_response(chance: Random, *, patient: bool) -> tuple[i.ProviderInput, ...]:
    """A few whole calls that could all run, perhaps with words between them, and mostly a good end."""
    said: list[i.ProviderInput] = []
    for place in range(chance.randint(1, 3)):
        if chance.random() < 0.3:
            said += [i.BlockOpened(key=place, block_type="text"), i.Delta(place, "so"), i.BlockClosed(key=place)]
        patiently = ["ask_look", "ask_first", CLIENT_TOOL, CLIENT_TOOL, *PATIENT_TOOLS] if patient else [*TOOLS]
        name = chance.choice(["look", "eager_put", *patiently])
        given: dict[str, Json] = chance.choice([{}, {}, {"n": 0}, {"n": 1}])
        said += [
            i.BlockOpened(key=10 + place, block_type="tool_use", tool_name=name, input=given),
            i.BlockClosed(key=10 + place),
        ]
    if chance.random() < 0.15:
        return (*said, i.ResponseFailed(error=RETRYABLE))
    reasons: list[StopReason] = ["calls", "calls", "calls", "end", "pause", "pause", "length", "refusal"]
    return (*said, i.ResponseEnded(stop_reason=chance.choice(reasons), provider_reason=None))


def _busy_life(seed: int, *, patient: bool) -> Life:
    chance = Random(seed)
    return Life(
        limits=TurnLimits(
            rounds=chance.choice([1, 2, 4, 4]),
            calls_per_round=chance.choice([1, 64, 64, 64]),
            parallel_calls=chance.choice([1, 16]),
        ),
        tools=tuple(PATIENT_TOOLS if patient else TOOLS),
        responses=tuple(_busy_response(chance, patient=patient) for _ in range(chance.randint(1, 3))),
        choices=tuple(chance.randrange(24) for _ in range(60)),
        endings=(),
    )


def busy_lives(*, patient: bool = True) -> st.SearchStrategy[Life]:
    """In which much is called, and waited for and asked if ``patient``. Evenly spread by a seed: what hypothesis draws
    is mostly simple, and in a simple life nobody waits."""
    return st.integers(0, 2**64).map(partial(_busy_life, patient=patient))


def any_lives(*, disturbed: bool = True) -> st.SearchStrategy[Life]:
    """Those of both kinds in which nobody is waited for."""
    return st.one_of(lives(disturbed=disturbed), busy_lives(patient=False))


at_each_moment = settings(max_examples=max(25, settings().max_examples // 4))
"""For what tries each life at each of its moments: a quarter of the lives in a long run, where time is what counts."""

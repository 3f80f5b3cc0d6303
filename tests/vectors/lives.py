"""The lives that the vectors tell, each as the list of its events. What the machine can say, it says itself."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace
from tests.core.drive import row
from tests.core.play import (
    CANCEL,
    Play,
    call,
    ended,
    failed,
    opened,
    provider_call,
    provider_result,
    text,
    thinking,
    used,
)
from tests.core.turns import CLIENT_TOOL, FATAL, PATIENT_TOOLS

from legato.core import events as e
from legato.core import inputs as i
from legato.core.blocks import Block, Citation, FileBlock, ImageBlock, TextBlock
from legato.core.closing import close_interrupted
from legato.core.fold import fold, merge, standing
from legato.core.plan import TurnLimits
from legato.core.user_turn import say

LIVES: dict[str, Callable[[], list[e.Event]]] = {}
"""By name, which is the file's; the docstring says what it is about."""


def life(make: Callable[[], list[e.Event]]) -> Callable[[], list[e.Event]]:
    LIVES[make.__name__] = make
    return make


@life
def plain_text() -> list[e.Event]:
    """One text in a few deltas, and its end."""
    play = Play()
    play.say(text(0, "Hel", "lo, ", "dragon."), used(12, 5), ended("end", "end_turn"))
    return play.events


@life
def empty_text() -> list[e.Event]:
    """A block without a delta: its length is 0, its hash that of nothing."""
    play = Play()
    play.say(text(0), ended("end"))
    return play.events


@life
def thinking_and_a_tool() -> list[e.Event]:
    """Signed thinking, a call, its result while the model still talks, and the round that reads it."""
    play = Play()
    play.say(used(20, 2), thinking(0, "Let me see", "sig=="), text(1, "I will look."), call(2, raw='{"n":1}'))
    play.emit(0, "asking the station …\n")
    play.say(i.BlockOpened(key=3, block_type="text"), i.Delta(3, "Mean"))
    play.finish(0, output={"celsius": 21, "sky": ["clear", None]})
    play.say(i.Delta(3, "while."), i.BlockClosed(key=3), used(20, 9), ended("calls", "tool_use"))
    play.say(used(40, 1), text(0, "It is 21 °C."), used(40, 6), ended("end", "end_turn"))
    return play.events


@life
def interleaved_calls() -> list[e.Event]:
    """Three calls whose deltas, texts and results interleave; neighbours of two blocks are never merged."""
    play = Play()
    play.say(opened(0), opened(1), i.Delta(0, '{"n'), i.Delta(1, '{"n'), i.Delta(0, '":'), i.Delta(0, "0}"))
    play.say(i.Delta(1, '":1}'), i.BlockClosed(key=1), call(2, "post"), i.BlockClosed(key=0))
    play.emit(1, "b")
    play.emit(0, "a")
    play.emit(1, "bb")
    play.emit(1, "bbb")
    play.finish(1, output="second")
    play.say(ended())
    play.finish(0, "error")
    play.store(2)
    play.finish(2, "timeout")
    play.say(text(0, "Two of three failed."), ended("end"))
    return play.events


@life
def calls_that_never_run() -> list[e.Event]:
    """Arguments that are no JSON, an unknown tool, a denied one: each has a result, none has a `tool_start`."""
    play = Play()
    play.say(call(0, raw='{"n":'), call(1, "nobody"), call(2, "ask_first"), ended())
    play.say(text(0, "I cannot."), ended("end"))
    return play.events


@life
def cancelled_in_the_middle() -> list[e.Event]:
    """A cancel: the open text and the open call stop as `partial`, the running call is answered, the turn ends."""
    play = Play()
    play.say(call(0), text(1, "Mean"), opened(2), i.Delta(2, '{"n"'), i.BlockOpened(key=3, block_type="text"))
    play.say(i.Delta(3, "half a wo"), CANCEL)
    play.finish(0, "cancelled")
    return play.events


@life
def adopted_response() -> list[e.Event]:
    """A response dies after a sealed call: kept up to it, and the turn goes on."""
    play = Play()
    play.say(text(0, "Let me look."), call(1), i.BlockOpened(key=2, block_type="text"), i.Delta(2, "And me"), failed())
    play.finish(0)
    play.say(text(0, "There."), ended("end"))
    return play.events


@life
def asked_again() -> list[e.Event]:
    """A response dies before its first block: a second attempt of the same round."""
    play = Play()
    play.say(used(7, 0), failed(), used(7, 1), text(0, "Here."), used(7, 3), ended("end"))
    return play.events


@life
def refused() -> list[e.Event]:
    """A refusal: the response is orphaned, its running call cancelled."""
    play = Play()
    play.say(call(0), text(1, "I'd rather"), ended("refusal", "refusal"))
    play.finish(0, "cancelled")
    return play.events


@life
def ended_in_an_error() -> list[e.Event]:
    """The provider dies before any call: the text is kept, the turn ends in the error."""
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Half"), failed(FATAL))
    return play.events


@life
def last_round() -> list[e.Event]:
    """The limit of rounds: the model is told in notices that carry their round."""
    play = Play(limits=TurnLimits(rounds=3))
    for place in range(2):
        play.say(call(0), ended())
        play.finish(place)
    play.say(text(0, "As far as I know …"), ended("end"))
    return play.events


@life
def lengths_in_bytes() -> list[e.Event]:
    """`length` is UTF-8 bytes: an emoji of several code points cut between deltas, combining marks, U+2028."""
    play = Play()
    play.say(text(0, "👩", "\u200d", "🚀", "e", "\u0301", "\u2028", "漢字", "\ufffd", "\U0010ffff"))
    play.say(text(1, "torn \ud83d", "and NUL \0"), ended("end"))
    return play.events


@life
def provider_blocks() -> list[e.Event]:
    """What a provider does itself: call and result, citations, an image by URL, an opaque block, hidden thinking."""
    play = Play()
    cited = (Citation(url="https://example.org/a", title=None, start=0, end=5), Citation(url=None, title="B"))
    hidden = i.BlockClosed(key=0, redacted=True, provider_data={"wire": {"data": "zzz"}})
    play.say(i.BlockOpened(key=0, block_type="thinking"), hidden, provider_call(1, "srv_1"))
    play.say(provider_result(2, "srv_1", [{"title": "Dragons", "n": 1.5}]))
    play.say(i.BlockOpened(key=3, block_type="text"), i.Delta(3, "Found."), i.BlockClosed(key=3, citations=cited))
    shown = i.BlockClosed(key=4, media_type="image/png", url="https://example.org/a.png")
    play.say(i.BlockOpened(key=4, block_type="image"), shown)
    new = i.BlockClosed(key=5, provider_data={"wire": {"kind": "new", "deep": [{"x": None}]}})
    play.say(i.BlockOpened(key=5, block_type="opaque"), new, ended("end"))
    return play.events


@life
def user_turn() -> list[e.Event]:
    """A user turn: text, an image and a file whose data lies beside, an image by URL. It is born ended."""
    blocks: list[Block] = [
        TextBlock(index=0, round=0, state="complete", text="What is this?"),
        ImageBlock(index=1, round=0, state="complete", media_type="image/png", bytes=7, sha256="ab" * 32, href="/d/1"),
        FileBlock(
            index=2,
            round=0,
            state="complete",
            name="é.pdf",
            media_type="application/pdf",
            bytes=9,
            sha256="cd" * 32,
            href="/d/2",
        ),
        ImageBlock(index=3, round=0, state="complete", url="https://example.org/a.png"),
    ]
    created = "2026-11-24T00:00:00.000Z"
    return say(turn_id="asked", chat_id="chat", prev_turn_id=None, created_at=created, blocks=blocks)[1]


@life
def still_running() -> list[e.Event]:
    """Not ended: open text, an open call, an open result; what their stops will add is not there yet."""
    play = Play()
    play.say(call(0), thinking(1, "hm", "sig"), opened(2), i.Delta(2, '{"n":'), i.BlockOpened(key=3, block_type="text"))
    play.emit(0, "looking")
    play.say(i.Delta(3, "So "), i.Delta(3, "far"))
    return play.events


@life
def merged_deltas() -> list[e.Event]:
    """As a reader may get it who lags: some deltas merged already. Merging what is merged merges further."""
    events = plain_text()
    merged: list[e.Event] = []
    for event in events:
        if isinstance(event, e.BlockDelta) and merged and isinstance(merged[-1], e.BlockDelta) and len(merged) < 5:
            merged[-1] = merge([merged[-1], event])
        else:
            merged.append(event)
    return merged


@life
def repeated_events() -> list[e.Event]:
    """Events that come twice, whole stretches of them: what is not newer than the last seq is ignored."""
    events = thinking_and_a_tool()
    return [*events[:9], *events[4:15], *events[14:], *events[:3]]


@life
def waiting_for_people() -> list[e.Event]:
    """An approval and a client's tool: what the turn waits for, one answered, the turn waiting."""
    events = still_running()[:2]
    seq = events[-1].seq
    return [
        *events,
        e.CallWaiting(seq=seq + 1, call_id="call_a", index=0, kind="approval"),
        e.CallWaiting(seq=seq + 2, call_id="call_b", index=1, kind="client_tool"),
        e.CallWaiting(seq=seq + 3, call_id="call_c", index=2, kind="approval"),
        e.CallAnswered(seq=seq + 4, call_id="call_a", decision="approve", input={"n": 2}),
        e.Steer(seq=seq + 5, steer_id="s1", text="Hurry", state="accepted"),
        e.TurnWaiting(seq=seq + 6),
    ]


@life
def answered_after_waiting() -> list[e.Event]:
    """An answer makes a waiting turn run again."""
    events = waiting_for_people()
    return [*events, e.CallAnswered(seq=events[-1].seq + 1, call_id="call_b")]


@life
def rewind_keeps_a_later_result() -> list[e.Event]:
    """A round after a pause is asked again: its text falls, and the results that came meanwhile, after `to`, are listed
    and stand with their indexes. A call that has its result is not waited for, though its answer came after `to`."""
    play = Play(tools=PATIENT_TOOLS)
    play.say(call(0), call(1, "ask_look"), ended("pause"), i.BlockOpened(key=0, block_type="text"), i.Delta(0, "Hel"))
    play.finish(0, output="é")
    play.answer(1, "deny")
    play.say(i.Delta(0, "lo"))
    play = play.next()
    play.say(text(0, "Hello again."), ended("end"), text(0, "Done."), ended("end"))
    return play.seen


def _taken_over(kept: list[e.Event], lost: list[e.Event], *, epoch: int) -> list[e.Event]:
    """``kept`` are stored, ``lost`` were said and are not; then a new owner comes."""
    to = kept[-1].seq if kept else 0
    rewind = e.Rewind(seq=epoch * e.EPOCH_SIZE + 1, to=to, blocks=standing(fold(kept)))
    return [*kept, *lost, rewind]


@life
def rewind_reopens() -> list[e.Event]:
    """A rewind: open blocks lose the text and the stops that were not stored, and grow on from there."""
    said = thinking_and_a_tool()
    place = next(at for at, event in enumerate(said) if isinstance(event, e.BlockStop))
    events = _taken_over(said[:place], said[place : place + 6], epoch=1)
    return [*events, e.BlockDelta(seq=1_000_002, index=0, text=" again é")]


@life
def rewind_cuts_a_text_in_bytes() -> list[e.Event]:
    """A rewind cuts an open text to so many UTF-8 bytes."""
    play = Play()
    play.say(i.BlockOpened(key=0, block_type="text"), i.Delta(0, "🐉 é"), i.Delta(0, " and mo"), i.Delta(0, "re"))
    return _taken_over(play.events[:4], play.events[4:], epoch=2)


@life
def rewind_to_partial_blocks() -> list[e.Event]:
    """The new owner lists what was open as `partial`: closed there, with the length and hash of what stands."""
    events = still_running()
    stands = standing(fold(events))
    cut = tuple(replace(each, state="partial") if each.state == "open" else each for each in stands)
    return [*events, e.Rewind(seq=1_000_001, to=events[-1].seq, blocks=cut)]


@life
def rewind_before_a_round() -> list[e.Event]:
    """A round is asked again: its blocks, its record and its notices are gone, and their indexes are given anew."""
    said = last_round()
    place = [at for at, event in enumerate(said) if isinstance(event, e.RoundStart)][1]
    events = _taken_over(said[:place], said[place:-1], epoch=1)
    seq = events[-1].seq
    return [
        *events,
        e.RoundStart(seq=seq + 1, round=2, attempt=1, model="m", provider="p"),
        e.BlockStart(seq=seq + 2, index=2, round=2, block_type="text"),
        e.BlockDelta(seq=seq + 3, index=2, text="Once more."),
    ]


@life
def rewind_to_nothing() -> list[e.Event]:
    """Nothing was stored: all is forgotten, and the turn begins anew."""
    said = plain_text()
    again = Play(epoch=1)
    again.say(text(0, "Anew."), ended("end"))
    rewind = e.Rewind(seq=1_000_001, to=0, blocks=())
    return [*said[:6], rewind, *(_shifted(event, 1) for event in again.events)]


@life
def rewind_while_waiting() -> list[e.Event]:
    """What was answered after the seq that the rewind goes to is waited for again."""
    events = answered_after_waiting()
    return _taken_over(events[:6], events[6:], epoch=1)


@life
def two_rewinds() -> list[e.Event]:
    """A second owner dies too; the third one counts from two million and one."""
    first = rewind_reopens()
    return _taken_over(first[:-1], first[-1:], epoch=2)


@life
def interrupted_by_a_crash() -> list[e.Event]:
    """The next owner ends the turn: rewind, `partial` stops, results that nobody can know, the end."""
    said = still_running()
    stored, lost = said[:-1], said[-1:]
    scribe = close_interrupted(row("turn", "assistant"), stored, epoch=1)
    return [*stored, *lost, *(event for event in scribe.actions if isinstance(event, e.BaseEvent))]


@life
def steered() -> list[e.Event]:
    """What people say into a turn: told to its round behind its results, told to one more round, and given back."""
    play = Play(tools=PATIENT_TOOLS, limits=TurnLimits(rounds=3))
    play.say(call(0), i.Steered(steer_id="s1", text="Shorter, please."), ended())
    play.finish(0)
    play.say(text(0, "Short."), i.Steered(steer_id="s2", text="And colder. \N{SNOWFLAKE}"), ended("end"))
    play.say(text(0, "Brr."), i.Steered(steer_id="s3", text="Too late."), ended("end"))
    return play.events


@life
def steered_and_rewound() -> list[e.Event]:
    """The round that was told something is asked again: it is told so anew."""
    said = steered()
    place = [at for at, event in enumerate(said) if isinstance(event, e.RoundStart)][1]
    events = _taken_over(said[:place], said[place:-1], epoch=1)
    seq = events[-1].seq
    return [
        *events,
        e.RoundStart(seq=seq + 1, round=2, attempt=2, model="m", provider="p"),
        e.Steer(seq=seq + 2, steer_id="s1", text="Shorter, please.", state="delivered"),
        e.BlockStart(seq=seq + 3, index=2, round=2, block_type="text"),
    ]


@life
def approved_with_other_arguments() -> list[e.Event]:
    """A person approves other arguments than the model's while the model still talks: the call keeps the model's, its
    result says what ran. Another call is denied: it has a result and no `tool_start`."""
    play = Play(tools=PATIENT_TOOLS)
    play.say(call(0, "ask_look", '{"n":1}'), text(1, "If I may."), call(2, "ask_first", "{}"))
    play.answer(0, "approve", input={"n": 2, "å": None})
    play.emit(0, "looking")
    play.answer(1, "deny", reason="not today")
    play.say(ended())
    play.finish(0)
    play.say(text(0, "Done."), ended("end"))
    return play.events


@life
def client_tool() -> list[e.Event]:
    """A client's tool beside one of the server's: asked for after the response, answered before the sibling ends, so
    that the turn never rests. Use and result say whose the tool is; nothing of it is said to have started."""
    play = Play(client_tools=(CLIENT_TOOL,))
    play.say(call(0, CLIENT_TOOL, '{"of":["a","b"]}'), call(1), ended())
    play.answer(0, output={"picked": "b"})
    play.finish(1)
    play.say(text(0, "b it is."), ended("end"))
    return play.events


@life
def nobody_answered() -> list[e.Event]:
    """The wait of an approval and of a client's tool is over while a sibling runs: each has a result, without a
    `call_answered`, and is waited for no more. A tool's own question is answered by its end in the same way."""
    play = Play(tools=PATIENT_TOOLS, client_tools=(CLIENT_TOOL,))
    play.say(call(0, "ask_look", '{"n":1}'), call(1, CLIENT_TOOL), call(2), call(3), ended(), i.WaitOver())
    play.say(i.ToolAsked(call_id=play.call(2).call_id, message="Which?", input_schema={"type": "object"}))
    play.finish(2)
    return play.events


@life
def gone_on_after_waiting() -> list[e.Event]:
    """A turn at rest, taken up by the owner that the answer woke: it rewinds to where the turn was left, so nothing is
    taken back, and the turn runs again. One client is still waited for; the turn rests once more."""
    play = Play(client_tools=(CLIENT_TOOL,))
    play.say(text(0, "Choose."), call(1, CLIENT_TOOL, '{"n":1}'), call(2, CLIENT_TOOL, '{"n":2}'), ended())
    play = play.answered(1, output="second")
    play = play.answered(0, output="first")
    play.say(text(0, "Thanks."), ended("end"))
    return play.seen


@life
def asked_again_after_a_crash() -> list[e.Event]:
    """The owner dies while a second round is answered, and no call of it is stored: the next owner rewinds to before
    the round and asks again. The first round's result stands; indexes are given anew, the attempt is not."""
    play = Play()
    play.say(call(0), ended())
    play.finish(0)
    play.say(thinking(0, "Hm", "sig"), i.BlockOpened(key=1, block_type="text"), i.Delta(1, "As I wa"), i.Delta(1, "s"))
    play = play.next(lost=1)
    play.say(text(0, "So it is."), ended("end"))
    return play.seen


@life
def adopted_after_a_crash() -> list[e.Event]:
    """The owner dies in a response with sealed calls: the next one adopts it. The read runs again, so what it had shown
    is taken back whole and said anew; the open text and the open call stop as `partial`; the held call is answered."""
    play = Play()
    play.say(text(0, "Let me see."), call(1), call(2, "post"))
    play.emit(0, "half a lo")
    play.say(i.BlockOpened(key=3, block_type="text"), i.Delta(3, "Mean"), opened(4), i.Delta(4, '{"n"'))
    play.say(i.Delta(3, "while"))
    play = play.next(lost=1)
    play.emit(0, "the whole ")
    play.emit(0, "look")
    play.finish(0, output={"found": True})
    play.say(text(0, "Found."), ended("end"))
    return play.seen


def _shifted(event: e.Event, by: int) -> e.Event:
    return replace(event, seq=event.seq + by)

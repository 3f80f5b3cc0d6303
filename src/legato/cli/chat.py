"""`legato chat`: one host that decides, and children that send. Keys, Ctrl-C and the end of an answer come in through
one queue; whatever is said to the server while an answer streams runs beside it.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, aclosing
from typing import Final, NamedTuple, TypeAlias

from legato.cli.api import Api, connected
from legato.cli.drawing import Drawing
from legato.cli.editor import Editor, Entered, Left, Typed
from legato.cli.failures import FAILED, INTERRUPTED, MISUSED, Failed, Refused
from legato.cli.follow import Follower, Lost
from legato.cli.hints import hint
from legato.cli.keyboard import interrupts, keys, lines
from legato.cli.ls import first_words
from legato.cli.outlet import Outlet, Terminal, outlet
from legato.cli.questions import Edit, Question, questions
from legato.cli.seen import SeenTurn
from legato.cli.talk import Talk, Wishes
from legato.cli.untrusted import clean, one_line
from legato.cli.witness import Witness
from legato.core.blocks import Json
from legato.core.fold import Turn
from legato.core.text import clean as valid

COMMANDS: Final = {
    "/cancel": "stop the answer that is streaming (Ctrl-C does the same)",
    "/retry": "have the last message answered again",
    "/edit": "/edit TEXT: say the last message otherwise, on a branch of its own",
    "/branch": "list the chat's branches; /branch N goes on from one of them",
    "/model": "/model MODEL: ask another model from now on; without one, say which",
    "/help": "say this",
    "/quit": "leave (Ctrl-D does the same); an answer that is streaming goes on without us",
}
_SHOWN_TURNS: Final = 2
"""Of a chat that is gone on with: the last exchange."""
_INPUTS_MAX: Final = 1000
"""Lines typed ahead. Whoever feeds more than that into a running answer loses them, and is told."""
_UNSAID_MAX: Final = 200
"""Characters of a message that was typed ahead and is not said any more."""
_FAREWELL_SECONDS: Final = 1.0
"""For a cancel that is on its way while somebody leaves."""


class Interrupted(NamedTuple):
    """Ctrl-C."""


class Over(NamedTuple):
    """The answer has ended: in its turn, or in a failure to have one."""

    turn: Turn | None
    failed: Failed | None


Input: TypeAlias = Entered | Left | Interrupted | Over


def run(url: str, wishes: Wishes) -> int:
    words = wishes.text
    if words[-1:] == ("-",) or (not words and not _is_typed()):
        piped = b"" if sys.stdin is None else sys.stdin.buffer.read()
        text = "\n\n".join(one for one in (" ".join(words[:-1]), piped.decode(errors="replace").strip("\n")) if one)
        if not text.strip():
            raise Failed("there is nothing to say: no TEXT, and nothing was piped in", exit_code=MISUSED)
    else:
        text = " ".join(words)
    return asyncio.run(_chat(url, wishes, valid(text)))


def _is_typed() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


async def _chat(url: str, wishes: Wishes, text: str) -> int:
    try:
        async with connected(url) as api, asyncio.TaskGroup() as children:
            host = _Host(api, Talk(api, wishes), outlet(), children)
            return await host.run(text)
    except BaseExceptionGroup as group:
        # A task group wraps what ends it, be it one sentence for a person or a pipe that was closed on us.
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Host:
    def __init__(self, api: Api, talk: Talk, out: Outlet, children: asyncio.TaskGroup) -> None:
        self._api = api
        self._talk = talk
        self._out = out
        self._children = children
        self._inputs: asyncio.Queue[Input] = asyncio.Queue(_INPUTS_MAX)
        self._editor = Editor(words=tuple(COMMANDS))
        self._answer: asyncio.Task[None] | None = None
        self._turn_id: str | None = None  # of the answer that streams, known to the server
        self._cancel_asked = False
        self._command: asyncio.Task[None] | None = None  # that the host waits for
        self._sending: list[asyncio.Task[None]] = []  # cancels and answers, on their way
        self._turn: Turn | None = None  # the answer that streams, as far as it has come
        self._question: Question | None = None  # that stands
        self._settled: set[int] = set()  # needs, by their seq, of which nothing more is to be asked here
        self._listens = False
        self._ahead: list[str] = []  # said while an answer streamed: next
        self._usual_model = ""  # asked where none is named; known once the chat was greeted
        self._warned = False

    async def run(self, text: str) -> int:
        """Until somebody leaves, or for ``text`` until it is answered. The exit code."""
        once = bool(text)
        await self._greet(once=once)
        with ExitStack() as stack:
            stack.enter_context(interrupts(self._interrupt))
            self._listen(stack, once=once)
            if once:
                self._begin(self._talk.said(text))
            try:
                code = await self._converse(once=once)
                await self._let_them_out()
            finally:
                self._out.prompt(None)
                self._out.fresh()
                for child in (self._answer, *self._sending):
                    if child is not None:
                        child.cancel()
            return code

    async def _let_them_out(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=_FAREWELL_SECONDS)

    async def _converse(self, *, once: bool) -> int:
        while True:
            self._prompt()
            match await self._inputs.get():
                case Entered(line=line):
                    self._out.prompt(None)
                    if line.strip() == "/quit":
                        return self._leave(0)
                    await self._entered(line)
                case Left():
                    return self._leave(0)
                case Interrupted():
                    if self._interrupted():
                        return self._leave(INTERRUPTED)
                case Over() as over:
                    code = self._ended(over)
                    if once and self._answer is None:
                        if over.turn is not None:
                            self._say(f"[{self._hint('chat', '--chat', self._talk.chat_id)} goes on from here]")
                        return code

    def _interrupt(self) -> None:
        if self._command is None:
            self._put(Interrupted())
        else:
            self._command.cancel()

    def _put(self, given: Input) -> None:
        try:
            self._inputs.put_nowait(given)
        except asyncio.QueueFull:
            self._out.line("too much was typed ahead; the last line is dropped", "error")

    # Before the first word

    async def _greet(self, *, once: bool) -> None:
        chat = await self._talk.open()
        if once:
            return
        model = self._talk.model or (chat.model if chat else None) or await self._talk.default_model()
        self._usual_model = model
        self._say(f"{model} at {self._api.url}; /help says what can be typed")
        if chat is None:
            return
        self._say(f"chat {chat.id}: {one_line(chat.title, 60)}")
        await self._show_last()
        if chat.active_turn_id is not None:
            self._follow_on(chat.active_turn_id)

    async def _show_last(self) -> None:
        for turn in await self._talk.last_turns(_SHOWN_TURNS):
            if turn.id != self._turn_id and (turn.role == "user" or turn.ended_at is not None):
                self._show(turn)

    def _show(self, turn: SeenTurn) -> None:
        text = clean(turn.text()).strip("\n")
        if turn.role == "user":
            self._out.line(f"> {text}", "you")
        else:
            self._out.line(text or f"[{turn.status}, without a text]", "answer")

    def _listen(self, stack: ExitStack, *, once: bool) -> None:
        if not _is_typed():
            return
        if isinstance(self._out, Terminal) and sys.platform != "win32":
            stack.enter_context(keys(self._pressed, resumed=self._prompt))
            self._listens = True
        elif not once:
            lines(self._pressed)
            self._listens = True

    # What comes in

    def _pressed(self, data: bytes) -> None:
        typed: list[Typed] = self._editor.feed(data) if data else [Left()]
        for one in typed:
            self._put(one)
        self._prompt()

    def _prompt(self) -> None:
        """While an answer streams the line is there once something stands on it, or something is asked."""
        if self._answer is None or self._editor.line or self._question is not None:
            self._out.prompt(self._editor.line, self._editor.at)
        else:
            self._out.prompt(None)

    def _interrupted(self) -> bool:
        """Ctrl-C: clear the line, else cancel the answer, else leave at the second. True to leave."""
        if self._editor.line:
            self._editor.clear()
            return False
        if self._answer is not None and not self._cancel_asked:
            self._say("cancelling; Ctrl-C again leaves")
            self._cancel()
            return False
        if self._answer is None and not self._warned:
            self._warned = True
            self._say("Ctrl-C again leaves, and so does /quit")
            return False
        return True

    async def _entered(self, line: str) -> None:
        self._warned = False
        text = line.strip()
        if self._question is not None and not text.startswith("/"):
            self._reply(self._question, text)
            return
        if not text:
            return
        self._out.line(f"> {clean(text)}", "you")
        command, _, rest = text.partition(" ")
        if command in COMMANDS:
            # A server that does not answer must not keep anybody here: Ctrl-C gives the command up.
            self._command = self._children.create_task(self._obey(command, rest.strip()))
            await asyncio.wait([self._command])
            if self._command.cancelled():
                self._say(f"{command} is given up")
            self._command = None
        elif command.startswith("/") and command[1:].isalpha() and "\n" not in text:
            self._say(f"there is no {clean(command)}; there are {', '.join(COMMANDS)}", "error")
        elif self._answer is not None:
            self._ahead.append(text)
            self._say("said when this answer has ended")
        else:
            self._begin(self._talk.said(text))

    async def _obey(self, command: str, rest: str) -> None:
        try:
            await self._do(command, rest)
        except Failed as error:
            self._say(error.message, "error")

    async def _do(self, command: str, rest: str) -> None:
        match command:
            case "/help":
                for name, meaning in COMMANDS.items():
                    self._say(f"{name:8} {meaning}")
            case "/cancel" if self._answer is None:
                self._say("nothing is streaming")
            case "/cancel":
                self._cancel()
            case "/model" if not rest:
                self._say(clean(self._talk.model or self._usual_model))
            case "/model":
                self._talk.model = rest
                self._say(f"{clean(rest)} is asked from now on")
            case _ if self._answer is not None:
                self._say(f"{command} is for when the answer has ended; /cancel ends it", "error")
            case "/retry":
                self._begin(self._talk.again())
            case "/edit" if not rest:
                self._say("/edit TEXT: what should have been said?", "error")
            case "/edit":
                self._begin(await self._talk.edited(rest))
            case "/branch":
                await self._branch(rest)
            case _:
                raise AssertionError(command)

    async def _branch(self, number: str) -> None:
        tree = await self._talk.tree()
        leaves = tree.leaves()
        if not number:
            words = await first_words(self._api, self._talk.chat_id, tree)
            for place, leaf in enumerate(leaves, start=1):
                said = [words.get(node.id, "") for node in tree.branch(leaf.id)[-2:]]
                mark = "*" if leaf.id == self._talk.head else " "
                self._say(f"{mark}{place:>2}  {leaf.status:9}  {' -> '.join(said)}  {leaf.id}")
            return
        if not number.isdigit() or not 1 <= int(number) <= len(leaves):
            self._say(f"/branch N: expected a number from 1 to {len(leaves)}, got {clean(number)}", "error")
            return
        await self._talk.switch(leaves[int(number) - 1].id)
        await self._show_last()

    # The answer

    def _begin(self, body: dict[str, Json]) -> None:
        self._cancel_asked = False
        self._answer = self._children.create_task(self._start_and_follow(body))

    def _follow_on(self, turn_id: str) -> None:
        """One that runs already."""
        self._cancel_asked = False
        self._answer = self._children.create_task(self._follow(turn_id))

    async def _start_and_follow(self, body: dict[str, Json]) -> None:
        try:
            started = await self._talk.start(body, lost=self._say)
        except Failed as error:
            await self._inputs.put(Over(None, error))
            return
        if self._cancel_asked:  # before the server knew the turn
            self._sending.append(self._children.create_task(self._send_cancel(started.assistant_turn.id)))
        await self._follow(started.assistant_turn.id)

    async def _follow(self, turn_id: str) -> None:
        self._turn_id = turn_id
        witness = Witness()
        self._turn = witness.turn
        drawing = Drawing(self._out, witness.turn)
        follower = Follower(self._api, turn_id, lost=self._say_lost, found=lambda: self._say("the line is back"))
        failed: Failed | None = None
        try:
            async with aclosing(follower.batches()) as batches:
                async for frames in batches:
                    for frame in frames:
                        event = witness.take(frame)
                        if event is not None:
                            drawing.draw(event)
                    for complaint in witness.complaints:
                        self._say(complaint, "error")
                    witness.complaints.clear()
                    self._ask(turn_id)
        except Failed as error:
            failed = error
        await self._inputs.put(Over(witness.turn, failed))

    def _say_lost(self, lost: Lost) -> None:
        self._say(f"{lost.why}; trying again in {lost.seconds:.1f} s")

    # What is asked meanwhile

    def _ask(self, turn_id: str) -> None:
        """One thing after another; what was answered elsewhere is asked no more."""
        open_ = [] if self._turn is None else questions(self._turn)
        open_ = [one for one in open_ if one.need.seq not in self._settled]
        if not self._listens:
            for one in open_:
                self._settled.add(one.need.seq)
                self._say(f"{one.asked}: {self._hint('approve', turn_id, one.need.call_id)}")
            return
        if self._question not in open_:
            self._question = open_[0] if open_ else None
            if self._question is not None:
                self._out.line(self._question.asked, "call")
            self._prompt()

    def _reply(self, question: Question, text: str) -> None:
        self._out.line(f"> {clean(text)}", "you")
        match question.reply(text):
            case None if text.startswith("{"):
                self._editor.offer(text)
                self._say("that is no JSON object yet", "error")
            case None:
                self._ahead.append(text)
                self._say(f"said when this answer has ended; {question.asked}")
            case Edit(line=line):
                self._editor.offer(line)
                self._say("change the arguments, and Enter")
            case dict() as said:
                self._settled.add(question.need.seq)
                self._question = None
                if self._turn_id is not None:
                    body = {"call_id": question.need.call_id, **said}
                    if isinstance(question.need.nr, int):
                        body["nr"] = question.need.nr
                    self._sending.append(self._children.create_task(self._send_reply(self._turn_id, question, body)))
                    self._ask(self._turn_id)

    async def _send_reply(self, turn_id: str, question: Question, body: dict[str, Json]) -> None:
        try:
            await self._talk.approve(turn_id, body)
        except Failed as error:
            self._say(f"not answered: {error.message}", "error")
            if not isinstance(error, Refused) or error.status == 422:  # else nobody can answer it any more
                self._settled.discard(question.need.seq)
                self._ask(turn_id)

    def _cancel(self) -> None:
        self._cancel_asked = True
        if self._turn_id is not None:
            self._sending.append(self._children.create_task(self._send_cancel(self._turn_id)))

    async def _send_cancel(self, turn_id: str) -> None:
        try:
            await self._talk.cancel(turn_id)
        except Failed as error:
            self._cancel_asked = False
            self._say(f"not cancelled: {error.message}", "error")

    def _ended(self, over: Over) -> int:
        self._answer, self._turn_id, self._turn, self._question = None, None, None, None
        if over.failed is not None:
            self._say(over.failed.message, "error")
            if isinstance(over.failed, Refused) and over.failed.code == "chat_busy" and over.failed.turn_id:
                self._say(f"`{self._hint('tail', over.failed.turn_id)}` follows the turn that runs in it")
        if self._ahead:
            self._begin(self._talk.said(self._ahead.pop(0)))
        if over.turn is not None and over.turn.status == "cancelled" and self._cancel_asked:
            return INTERRUPTED
        return 0 if over.turn is not None and over.turn.status == "complete" else FAILED

    def _leave(self, code: int) -> int:
        self._out.prompt(None)
        if self._turn_id is not None:
            self._say(f"the turn goes on: {self._hint('tail', self._turn_id)}")
        elif self._answer is not None:
            self._say(f"left before the server said that it had the message: {self._hint('ls', self._talk.chat_id)}")
        for text in self._ahead:
            self._say(f"not said: {one_line(text, _UNSAID_MAX)}")
        return code

    def _hint(self, command: str, *words: str) -> str:
        return hint(command, *words, url=self._api.url)

    def _say(self, sentence: str, kind: str = "note") -> None:
        self._out.line(sentence, "error" if kind == "error" else "note")

"""What can be typed: every command, its arguments and its options, and what becomes of its errors."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from legato import __version__
from legato.cli.failures import BROKEN_PIPE, INTERRUPTED, MISUSED, Failed
from legato.cli.hints import DEFAULT_URL

# Rich would draw the help more handsomely and take 90 ms to be imported: more than all the rest together.
app = typer.Typer(
    name="legato", rich_markup_mode=None, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]}
)

Url: TypeAlias = Annotated[str, typer.Option("--url", metavar="URL", help="Where the server is.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON instead of words.")]
ConfigFile: TypeAlias = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings, instead of legato.toml in this folder.")
]


@app.callback(invoke_without_command=True)
def legato(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Say the version.")] = False
) -> int | None:
    """A self-hosted LLM turn server: serve turns, chat, follow a turn, look at what is kept."""
    if version:
        sys.stdout.write(f"legato {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
    return 0


@app.command()
def serve(
    tools: Annotated[
        list[str] | None, typer.Argument(metavar="TOOLS", help="Python files or modules; their @tool are offered.")
    ] = None,
    *,
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="0 takes any free one (8420).")] = None,
    db: Annotated[Path | None, typer.Option(metavar="FILE", help="Where everything is kept (legato.db).")] = None,
    config: ConfigFile = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="PROVIDER/MODEL of turns that name none.")] = None,
    drain: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What running turns get when it stops (30).")
    ] = None,
    documents: Annotated[
        bool, typer.Option("--documents", help="Offer the workspace of documents to the model as tools.")
    ] = False,
    insecure_no_auth: Annotated[
        bool, typer.Option("--insecure-no-auth", help="Listen where others can reach it, and let everybody in.")
    ] = False,
) -> int:
    """Start the server. Ctrl-C once lets running turns end, twice stops."""
    from legato.cli.serve import serve as run

    return run(
        {
            "tools.modules": tuple(tools) if tools else None,
            "server.host": host,
            "server.port": port,
            "server.db": db,
            "server.model": model,
            "server.drain": drain,
            "documents.tools": documents or None,
            "server.insecure_no_auth": insecure_no_auth or None,
        },
        file=config,
    )


@app.command()
def chat(
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="One message, one answer; - is what is piped in.")
    ] = None,
    *,
    url: Url = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="PROVIDER/MODEL instead of the default.")] = None,
    chat: Annotated[str | None, typer.Option("--chat", metavar="ID", help="Go on with this chat.")] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="The chat's system prompt.")] = None,
    no_tools: Annotated[bool, typer.Option("--no-tools", help="Offer no tools.")] = False,
) -> int:
    """Talk to a model. With TEXT, or something piped in, it is one message and one answer."""
    from legato.cli.chat import run
    from legato.cli.talk import Wishes

    wishes = Wishes(text=tuple(text or ()), model=model, chat_id=chat, system=system, tools=not no_tools)
    return run(url, wishes)


@app.command()
def tail(
    turn: Annotated[str, typer.Argument(metavar="TURN", help="The assistant turn's id.")],
    *,
    url: Url = DEFAULT_URL,
    after: Annotated[int, typer.Option(metavar="N", min=0, help="Only events with a greater seq.")] = 0,
    each: Annotated[bool, typer.Option("--each", help="Each delta as it was said, none merged.")] = False,
    cursor: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the place here, and go on from it next time.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Follow a turn to its end, whatever becomes of the line or the server. Exit code 1 if events were missing."""
    from legato.cli.tail import run

    return run(url, turn, after=after, each=each, cursor=cursor, as_json=json)


@app.command()
def show(
    turn: Annotated[str, typer.Argument(metavar="TURN", help="The turn's id.")],
    *,
    url: Url = DEFAULT_URL,
    model_view: Annotated[bool, typer.Option("--model-view", help="What the model was sent.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The stored events, as they are.")] = False,
    json: AsJson = False,
    db: Annotated[Path | None, typer.Option(metavar="FILE", help="Read this file where no server answers.")] = None,
) -> int:
    """Show one turn: its blocks, calls with their results, rounds, usage."""
    from legato.cli.show import run

    return run(url, turn, model_view=model_view, raw=raw, as_json=json, db=db)


@app.command()
def approve(
    turn: Annotated[str, typer.Argument(metavar="TURN", help="The turn whose call waits.")],
    call: Annotated[str | None, typer.Argument(metavar="CALL", help="Its id; may be left out if one waits.")] = None,
    *,
    url: Url = DEFAULT_URL,
    deny: Annotated[bool, typer.Option("--deny", help="Say no.")] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why not; the model reads it.")] = None,
    input: Annotated[
        str | None, typer.Option(metavar="JSON", help="Other arguments, or the answer to what it asks; - is piped in.")
    ] = None,
) -> int:
    """Say yes, or no, to a call that waits for a person."""
    from legato.cli.answers import approve as run

    return run(url, turn, call, deny=deny, reason=reason, given=input)


@app.command()
def answer(
    turn: Annotated[str, typer.Argument(metavar="TURN", help="The turn whose call waits.")],
    call: Annotated[str | None, typer.Argument(metavar="CALL", help="Its id; may be left out if one waits.")] = None,
    *,
    url: Url = DEFAULT_URL,
    output: Annotated[str | None, typer.Option(metavar="JSON", help="What it gave; - is what is piped in.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="Why it could not; the model reads it.")] = None,
) -> int:
    """Give the result of a client's tool that a turn waits for."""
    from legato.cli.answers import answer as run

    return run(url, turn, call, output=output, error=error)


@app.command()
def ls(
    chat: Annotated[str | None, typer.Argument(metavar="CHAT", help="List this chat's turns.")] = None,
    *,
    url: Url = DEFAULT_URL,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many chats.")] = 50,
    json: AsJson = False,
) -> int:
    """List chats, or the turns of one as a tree."""
    from legato.cli.ls import run

    return run(url, chat, limit=limit, as_json=json)


@app.command()
def verify(
    turn: Annotated[str | None, typer.Argument(metavar="TURN", help="This turn only.")] = None,
    *,
    chat: Annotated[str | None, typer.Option("--chat", metavar="ID", help="The turns of this chat only.")] = None,
    db: Annotated[Path | None, typer.Option(metavar="FILE", help="The file to read (legato.db).")] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> int:
    """Read back what is kept, and hold it against itself; a server may run. Exit code 1 if something is wrong."""
    from legato.cli.verify import run

    return run(turn, chat_id=chat, db=db, config=config, as_json=json)


@app.command()
def doctor(
    *,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Where a server may be running.")] = None,
    db: Annotated[Path | None, typer.Option(metavar="FILE", help="The file to look at (legato.db).")] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> int:
    """Say what is degraded: settings, file, and the server if one runs. Exit code 1 if something is."""
    from legato.cli.doctor import run

    return run(url=url, db=db, config=config, as_json=json)


@app.command()
def torture(
    *,
    turns: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many turns.")] = 500,
    seed: Annotated[int, typer.Option(metavar="N", help="Chooses what is done, and in what order.")] = 7,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the database and the log there; new, or empty.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and do nothing.")] = False,
    json: AsJson = False,
) -> int:
    """Kill, stop and starve a server of its own while it is used, and check every promise. Exit code 1 if one broke."""
    from legato.cli.torture import run

    return run(turns=turns, seed=seed, folder=folder, only_plan=plan, as_json=json)


@app.command()
def config(*, file: ConfigFile = None) -> int:
    """Show each setting and where it came from, secrets masked."""
    from legato.cli.config import run

    return run(file)


# What Typer raises for a wrong command line. It has brought its own copy of Click since 0.26, so that the name to
# import differs between versions; the base of BadParameter is the same class in all of them.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> int:
    """Run what was typed, and give the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # One that is not UTF-8 is given ? for what it cannot show, and stops nobody.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Not by calling the app: it ends the process itself where our reader went away, and with another code.
    command = typer.main.get_command(app)
    try:
        with command.make_context("legato", sys.argv[1:]) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as asked:
        return asked.exit_code
    except Failed as failed:
        return _say(f"legato: {failed.message}", failed.exit_code)
    except _UsageError as error:
        return _say(_usage(error), MISUSED)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code if isinstance(code, int) else 0


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(sentence + "\n")
    return code


def _usage(error: Exception) -> str:
    """`legato serve: no such option: --prot, did you mean --port?; see legato serve --help`."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "legato"
    said = getattr(error, "message", "") or str(error)
    formatted = error.format_message() if hasattr(error, "format_message") else said
    sentence = " ".join(str(formatted).split()).rstrip(".")
    return f"{command}: {sentence[:1].lower()}{sentence[1:]}; see {command} --help"

"""What it means that a tool raised: an error the model reads, or no error but a wish (``NotNow``, ``InputNeeded``)."""

from __future__ import annotations

from legato.core.blocks import CallError
from legato.core.errors import InputNeeded, NotNow, ToolError
from legato.core.text import clean

_MESSAGE_CHARACTERS = 8_192
"""Of an exception's text: some carry a whole page of HTML, and the model reads it."""
_SHOWN_ERRORS = 3


def wish_of(error: BaseException) -> NotNow | InputNeeded | None:
    """The wish, also inside exception groups; None where anything else was raised as well.

    Two questions at once are no wish: there is one answer.
    """
    leaves = _leaves(error)
    if len(leaves) == 1 and isinstance(leaves[0], InputNeeded):
        return leaves[0]
    for leaf in leaves:
        if not isinstance(leaf, NotNow):
            return None
    return NotNow()


def is_answer(error: BaseException) -> bool:
    """Did the tool mean to say this? Then it is not tried again."""
    return not isinstance(error, Exception) or all(
        isinstance(leaf, ToolError | NotNow | InputNeeded) for leaf in _leaves(error)
    )


def described(error: BaseException) -> CallError:
    """For the model: the text without a trace."""
    leaves = _leaves(error)
    if all(isinstance(leaf, ToolError | NotNow | InputNeeded) for leaf in leaves):
        first = leaves[0]
        code = first.code if isinstance(first, ToolError) else "tool_error"
        message = "; ".join(_own_text(leaf) or "the tool failed" for leaf in leaves[:_SHOWN_ERRORS])
        if isinstance(first, InputNeeded) and len(leaves) > 1:
            message = f"the tool asks {len(leaves)} things at once, and there is one answer: {message}"
    else:
        code = "tool_failed"
        message = "; ".join(text_of(leaf) for leaf in leaves[:_SHOWN_ERRORS])
    if len(leaves) > _SHOWN_ERRORS:
        message += f"; and {len(leaves) - _SHOWN_ERRORS} more"
    return CallError(code, clean(message[:_MESSAGE_CHARACTERS]))


def text_of(error: BaseException) -> str:
    """The exception's name and words."""
    name, text = type(error).__name__, _own_text(error)
    return f"{name}: {text}" if text else name


def _leaves(error: BaseException) -> list[BaseException]:
    """What an exception group is about, groups in it included; else the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _own_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise, and this is the last one to ask
        return ""

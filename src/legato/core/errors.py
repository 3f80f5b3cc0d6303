"""The tree of exceptions.

::

    LegatoError
    ├── RequestError            you: the request is wrong, or not possible now          4xx, 503
    │   ├── InvalidJson         the body is not JSON (line and column)                  400
    │   ├── Forbidden           who asks, or from where, is refused                     403, 421
    │   ├── NotFound            no such thing, or someone else's                        404
    │   ├── Conflict            it contradicts what is stored (chat busy, id reused)    409
    │   ├── TooLarge            a bound of the body is met                              413
    │   ├── UnsupportedMedia    the body is not in a form we read                       415
    │   ├── InvalidRequest      a field is wrong                                        422
    │   └── Overloaded          a bound of the server is met; come back later           429, 503
    ├── ProviderError           they: the model provider failed or refused              502
    ├── StoreError              they: the store failed                                  503
    │   ├── StoreUnavailable    it did not answer, or not in time; the same write may be tried again
    │   ├── RowRefused          it answered, and refused this row for itself
    │   └── StaleEpoch          the turn has a newer owner; nothing was written
    ├── ConfigError             the configuration or a tool file is wrong; said at start
    ├── ToolError               raised by a tool: the model sees the text
    ├── NotNow                  raised by a tool: run me once the response has ended
    └── InputNeeded             raised by a tool: ask a person, and call me again with the answer

``code`` is from the closed list of docs/errors.md. ``status`` is a hint for the HTTP surface, which alone speaks HTTP.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class LegatoError(Exception):
    """Base of everything Legato raises on purpose."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Problem(msgspec.Struct, frozen=True):
    """One wrong field: ``path`` is a JSON Pointer into the request body, "" for the whole."""

    path: str
    message: str


class RequestError(LegatoError):
    """The client's fault, or its bad luck: nothing was changed by the request."""

    status: ClassVar[int] = 400


class InvalidJson(RequestError):
    """``line`` and ``column`` count from 1."""

    def __init__(self, message: str, *, line: int, column: int) -> None:
        super().__init__(message, code="invalid_json")
        self.line = line
        self.column = column


class Forbidden(RequestError):
    """``origin_refused``, ``proxy_without_auth``, or (421) ``host_refused``."""

    status: ClassVar[int] = 403


class NotFound(RequestError):
    status: ClassVar[int] = 404

    def __init__(self, message: str, *, code: str = "not_found") -> None:
        super().__init__(message, code=code)


class Conflict(RequestError):
    """``chat_busy`` (with the busy ``turn_id``), ``turn_id_reused``, ``turn_ended``."""

    status: ClassVar[int] = 409

    def __init__(self, message: str, *, code: str, turn_id: str | None = None) -> None:
        super().__init__(message, code=code)
        self.turn_id = turn_id


class TooLarge(RequestError):
    """A bound of the request was met; ``actual`` is None where counting stopped at the bound."""

    status: ClassVar[int] = 413

    def __init__(self, message: str, *, code: str, limit: int, actual: int | None = None) -> None:
        super().__init__(message, code=code)
        self.limit = limit
        self.actual = actual


class UnsupportedMedia(RequestError):
    status: ClassVar[int] = 415

    def __init__(self, message: str, *, code: str = "unsupported_media_type") -> None:
        super().__init__(message, code=code)


class InvalidRequest(RequestError):
    """``problems`` names each wrong field; ``limit`` and ``actual`` are set where a bound was met."""

    status: ClassVar[int] = 422

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_request",
        problems: tuple[Problem, ...] = (),
        limit: int | None = None,
        actual: int | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.problems = problems
        self.limit = limit
        self.actual = actual

    @classmethod
    def at(
        cls,
        path: str,
        message: str,
        *,
        code: str = "invalid_request",
        limit: int | None = None,
        actual: int | None = None,
    ) -> InvalidRequest:
        """One wrong field, named by its JSON Pointer."""
        shown = path.lstrip("/").replace("/", ".") or "body"
        return cls(f"{shown}: {message}", code=code, problems=(Problem(path, message),), limit=limit, actual=actual)


class Overloaded(RequestError):
    """A bound of the server is met. ``retry_after`` is in seconds."""

    status: ClassVar[int] = 503

    def __init__(
        self, message: str, *, code: str, retry_after: int = 1, limit: int | None = None, actual: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.limit = limit
        self.actual = actual


class ProviderError(LegatoError):
    """A model provider failed. ``message`` keeps the vendor's words; ``retry_after`` (seconds) is what it asked for.

    ``code``: ``provider_unreachable``, ``provider_timeout``, ``provider_overloaded``, ``provider_rate_limited``,
    ``provider_auth``, ``provider_rejected``, ``context_overflow``, ``provider_cut``, ``provider_garbled``,
    ``provider_runaway``, ``provider_failed``.
    """

    status: ClassVar[int] = 502

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retryable: bool = False,
        provider: str | None = None,
        provider_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
        self.provider = provider
        self.provider_status = provider_status
        self.retry_after = retry_after


class StoreError(LegatoError):
    status: ClassVar[int] = 503


class StoreUnavailable(StoreError):
    """``unsure``: what was asked may have been done, and only the answer is lost."""

    def __init__(self, message: str, *, unsure: bool = False) -> None:
        super().__init__(message, code="store_unavailable")
        self.unsure = unsure


class RowRefused(StoreError):
    """The store answered and refused this turn's rows, whoever else was in the group."""

    def __init__(self, message: str, *, turn_id: str) -> None:
        super().__init__(message, code="persistence_failed")
        self.turn_id = turn_id


class StaleEpoch(StoreError):
    def __init__(self, message: str, *, turn_id: str) -> None:
        super().__init__(message, code="stale_epoch")
        self.turn_id = turn_id


class ConfigError(LegatoError):
    """Said at start: the message names the file or variable and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="config")


class ToolError(LegatoError):
    """Raise it in a tool: the call's result is an error whose text the model sees, without a trace."""

    def __init__(self, message: str, *, code: str = "tool_error") -> None:
        super().__init__(message, code=code)


class NotNow(LegatoError):
    """Raise it in a tool that was started while the model still talks and would rather run once the response has ended
    well: it is called again then, once. Raised after that it is an error like any other."""

    def __init__(self, message: str = "not before the response has ended") -> None:
        super().__init__(message, code="not_now")


class InputNeeded(LegatoError):
    """Raise it in a tool that cannot go on without a person's answer. The call waits, stored and without a process, and
    the tool is called again with ``ctx.resumed``: the ``state`` given here, and the answer.

    ``message`` is what the person reads, ``input_schema`` JSON Schema of the object wanted, None for a plain yes or no.
    ``state`` is any JSON, kept out of readers' sight. Calling it again counts as the same execution.
    """

    def __init__(self, message: str, *, input_schema: dict[str, object] | None = None, state: object = None) -> None:
        super().__init__(message, code="input_needed")
        self.input_schema = input_schema
        self.state = state

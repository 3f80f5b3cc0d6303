"""A tool's arguments: what its signature asks for as JSON Schema, and the check of what a model sent.

Nothing is coerced: ``"5"`` is no integer. What JSON cannot say itself (dates, enums, tuples, ids) is read from the
text or list that stands for it. Numbers are JSON's: 5.0 is the integer 5.
"""

from __future__ import annotations

import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn, Union

from legato.core.blocks import Json
from legato.core.context import ToolContext
from legato.core.errors import ConfigError, ToolError
from legato.tools.schema import tidy

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails

_SHOWN_ERRORS = 5
_SHOWN_CHARACTERS = 80
_CONTEXT_NAMES = ("ToolContext", "legato.ToolContext")


class Arguments:
    """``context`` is the name of the parameter that is filled with the ``ToolContext``, if there is one.

    Making one raises ``ConfigError`` for a signature that has no JSON form; ``title`` begins its message.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        title: str,
        described: Mapping[str, str],
        local_names: Mapping[str, object],
    ) -> None:
        self._title = title
        self.context: str | None = None
        parameters: list[inspect.Parameter] = []
        for parameter in self._signature(function):
            annotation = self._annotation(parameter, function, local_names)
            if _is_context(annotation):
                self._take_context(parameter)
            else:
                parameters.append(self._described(parameter, annotation, described.get(parameter.name)))
        self.names = tuple(parameter.name for parameter in parameters)
        self._adapter, self.schema = self._built(parameters)

    def check(self, input: dict[str, Json]) -> str | None:
        """What is wrong, in words for the model."""
        try:
            self.values(input)
        except ToolError as error:
            return error.message
        return None

    def values(self, input: dict[str, Json]) -> dict[str, object]:
        """The arguments as the function takes them, fresh each time, defaults filled in.

        Raises ``ToolError`` with code ``invalid_arguments``.
        """
        from pydantic import ValidationError

        try:
            try:
                return self._adapter.validate_json(json.dumps(input), strict=True)
            except ValidationError:
                return self._adapter.validate_json(json.dumps(_whole_numbers(input)), strict=True)
        except ValidationError as error:
            raise ToolError(self._in_words(error, input), code="invalid_arguments") from error
        except Exception as error:  # a validator of the user's may raise anything; the model is told
            message = f"the arguments could not be checked: {type(error).__name__}: {error}"
            raise ToolError(message, code="invalid_arguments") from error

    # reading the signature

    def _refuse(self, message: str) -> NoReturn:
        raise ConfigError(f"{self._title}: {message}")

    def _signature(self, function: Callable[..., object]) -> list[inspect.Parameter]:
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (NameError, ValueError, TypeError) as error:  # NameError: annotations are evaluated here from 3.14 on
            self._refuse(f"its signature cannot be read: {error}")
        for parameter in parameters:
            name = parameter.name
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self._refuse(f"*{name} cannot be described to a model; name each parameter, or take a list")
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                self._refuse(f"**{name} cannot be described to a model; name each parameter")
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                self._refuse(f"parameter {name!r} is positional-only, and arguments come by name; remove the '/'")
            if parameter.annotation is inspect.Parameter.empty:
                self._refuse(self._unannotated(name))
        return parameters

    @staticmethod
    def _unannotated(name: str) -> str:
        if name == "self":
            return "a method cannot be a tool; make it a function, inside another if it needs an object"
        if name in ("ctx", "context"):
            return f"parameter {name!r} has no annotation; write {name}: ToolContext"
        return f"parameter {name!r} has no annotation; write its type, such as {name}: str"

    def _annotation(
        self, parameter: inspect.Parameter, function: Callable[..., object], local_names: Mapping[str, object]
    ) -> object:
        """The annotation itself, read where it is a string (``from __future__ import annotations``)."""
        written = parameter.annotation
        if isinstance(written, str) and written.strip("\"'") in _CONTEXT_NAMES:
            return ToolContext  # also where it is imported for type checkers only
        holder = types.SimpleNamespace(__annotations__={parameter.name: written})
        names = dict(local_names)
        known = getattr(inspect.unwrap(function), "__globals__", {})
        try:
            return typing.get_type_hints(holder, known, names, include_extras=True)[parameter.name]
        except Exception as error:  # noqa: BLE001 - evaluating an annotation runs whatever is written there
            self._refuse(
                f"the annotation of parameter {parameter.name!r} cannot be read: {error}; "
                "what it names must be defined above the tool, and not for type checkers only"
            )

    def _take_context(self, parameter: inspect.Parameter) -> None:
        if self.context is not None:
            self._refuse(f"{self.context!r} and {parameter.name!r} are both ToolContext; keep one")
        self.context = parameter.name

    @staticmethod
    def _described(parameter: inspect.Parameter, annotation: object, described: str | None) -> inspect.Parameter:
        """A parameter by name only; a bare string in ``Annotated`` is its description, else the docstring has it."""
        from pydantic import Field

        text = _description(annotation) or described
        if text is not None:
            # In front of what the user wrote: a Field(description=…) of theirs wins.
            base, *rest = typing.get_args(annotation) if _is_annotated(annotation) else (annotation,)
            annotation = Annotated[base, Field(description=inspect.cleandoc(text)), *rest]
        return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation)

    # building

    def _built(self, parameters: Sequence[inspect.Parameter]) -> tuple[TypeAdapter[dict[str, object]], dict[str, Json]]:
        try:
            return _adapted(parameters)
        except Exception as error:  # noqa: BLE001 - pydantic and the user's own types raise what they like
            for parameter in parameters:
                try:
                    _adapted([parameter])
                except Exception as own:  # noqa: BLE001
                    self._refuse(self._unsupported(parameter, own))
            self._refuse(f"its parameters have no JSON form: {_first_line(error)}")

    @staticmethod
    def _unsupported(parameter: inspect.Parameter, error: Exception) -> str:
        if getattr(error, "code", None) == "typed-dict-version":
            return (
                f"parameter {parameter.name!r} is a typing.TypedDict, which cannot be read before Python 3.12; "
                "import TypedDict from typing_extensions"
            )
        base = typing.get_args(parameter.annotation)[0] if _is_annotated(parameter.annotation) else parameter.annotation
        named = inspect.formatannotation(base)
        return (
            f"parameter {parameter.name!r} has the type {named}, which has no JSON form ({_first_line(error)}); "
            "use JSON types, Literal, Enum, dates, dataclasses, TypedDict or pydantic models"
        )

    # saying what is wrong

    def _in_words(self, error: ValidationError, input: dict[str, Json]) -> str:
        details = error.errors(include_url=False, include_context=False)
        said = list(dict.fromkeys(self._one_in_words(detail, input) for detail in details))
        more = [f"and {len(said) - _SHOWN_ERRORS} more"] if len(said) > _SHOWN_ERRORS else []
        return "; ".join([*said[:_SHOWN_ERRORS], *more])

    def _one_in_words(self, detail: ErrorDetails, input: dict[str, Json]) -> str:
        kind, place = detail["type"], detail["loc"]
        if kind == "unexpected_keyword_argument":
            return self._unknown(str(place[-1]))
        absent = kind.startswith("missing")
        path = _path(place, input, absent=absent)
        if absent:
            return f"argument {path!r} is missing"
        if kind == "extra_forbidden":
            return f"argument {path!r} is not known"
        message = detail["msg"]
        return f"argument {path!r}: {message[:1].lower()}{message[1:]}, got {_snippet(detail['input'])}"

    def _unknown(self, name: str) -> str:
        if near := difflib.get_close_matches(name, self.names, 1):
            return f"there is no argument {name!r}, did you mean {near[0]!r}?"
        known = "the arguments are: " + ", ".join(self.names) if self.names else "there are none"
        return f"there is no argument {name!r}, {known}"


def _adapted(parameters: Sequence[inspect.Parameter]) -> tuple[TypeAdapter[dict[str, object]], dict[str, Json]]:
    """pydantic reads a function's signature, so it is given one: it calls back with the arguments it made."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        # A default that is no JSON is left out of the schema; the function still gets it.
        ignored_warning_kinds = {"skipped-choice", "skipped-discriminator", "non-serializable-default"}  # noqa: RUF012

    def taken(**arguments: object) -> dict[str, object]:
        return arguments

    taken.__signature__ = inspect.Signature(list(parameters))  # type: ignore[attr-defined]
    taken.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    # Dataclasses and TypedDicts inside follow this; a pydantic model says itself what it does with unknown fields.
    config = ConfigDict(extra="forbid")
    adapter: TypeAdapter[dict[str, object]] = TypeAdapter(taken, config=config)  # type: ignore[arg-type]  # a function
    schema = tidy(adapter.json_schema(schema_generator=Quiet))
    return adapter, schema


def _is_context(annotation: object) -> bool:
    if _is_annotated(annotation) or _is_union(annotation):
        return any(_is_context(inner) for inner in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, ToolContext)


def _is_annotated(annotation: object) -> bool:
    return typing.get_origin(annotation) is Annotated


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def _description(annotation: object) -> str | None:
    """A bare string in ``Annotated``, also inside ``Annotated[str, "…"] | None``."""
    if _is_union(annotation):
        return next(filter(None, map(_description, typing.get_args(annotation))), None)
    if not _is_annotated(annotation):
        return None
    return next((one for one in typing.get_args(annotation)[1:] if isinstance(one, str)), None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _path(place: tuple[int | str, ...], input: Json, *, absent: bool) -> str:
    """``items[0].name``. A step that the input does not have is a union's branch, and says nothing to the model."""
    path, value = "", input
    for at, step in enumerate(place):
        last = absent and at == len(place) - 1
        if isinstance(step, int) and isinstance(value, list) and step < len(value):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, dict) and (step in value or last):
            path, value = f"{path}.{step}" if path else str(step), value.get(str(step))
    return path


def _snippet(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _whole_numbers(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole_numbers(one) for one in value]
    if isinstance(value, dict):
        return {key: _whole_numbers(one) for key, one in value.items()}
    return value

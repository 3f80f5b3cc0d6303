"""What people and models look for in documents, and how what was found is shown.

Any text is a query: nothing in it is an error but too much of it. A word is found by its beginning, so that ``dragon``
finds ``dragons``; in quotation marks as it stands, several of them side by side. Case and accents do not count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from legato.core.documents import UNSPACED
from legato.core.errors import InvalidRequest
from legato.core.text import clean

QUERY_CHARACTERS: Final = 400
QUERY_TERMS: Final = 24
# Letters from which on a word is found by its beginning: "art" shall not find every article.
_BEGINNING: Final = 4
# Characters shown before the first that was found in a line, and behind it.
_BEFORE: Final = 60
_AROUND: Final = 240
# Characters of a line that is looked at as a whole, and places that are tried in a longer one.
_LONG: Final = 2_000
_TRIES: Final = 10

_PARTS: Final = re.compile(r'"([^"]*)"?|([^"\s]+)')
_UNSPACED: Final = re.compile(f"[{UNSPACED}]+")
_ASCII_WORD: Final = re.compile(r"[A-Za-z0-9]+")


class Term(msgspec.Struct, frozen=True):
    """Words side by side, ``words`` folded; ``beginning``: the last is the beginning of one. ``piece``: of a script
    without spaces, found wherever it stands. ``written`` is for those who fold in their own way."""

    words: tuple[str, ...]
    written: tuple[str, ...]
    beginning: bool = False
    piece: bool = False


class Query(msgspec.Struct, frozen=True):
    terms: tuple[Term, ...]

    @property
    def likely(self) -> tuple[Term, ...]:
        """Any of which will do where nothing has them all: the words, if there are any beside pieces."""
        return self.phrases or self.terms

    @property
    def phrases(self) -> tuple[Term, ...]:
        return tuple(one for one in self.terms if not one.piece)

    @property
    def pieces(self) -> tuple[str, ...]:
        return tuple(one.written[0] for one in self.terms if one.piece)


def read_query(text: str) -> Query:
    """Raises ``InvalidRequest`` for one without a letter or a digit, and for one that is too long."""
    if len(text) > QUERY_CHARACTERS:
        said = f"it has {len(text)} characters, limit is {QUERY_CHARACTERS}; a few words find more"
        raise InvalidRequest.at("/query", said, limit=QUERY_CHARACTERS, actual=len(text))
    terms = tuple(dict.fromkeys(_terms(text)))[:QUERY_TERMS]
    if not terms:
        raise InvalidRequest.at("/query", "there is no word in it; name one or a few to look for")
    return Query(terms)


def _terms(text: str) -> Iterator[Term]:
    for found in _PARTS.finditer(unicodedata.normalize("NFC", clean(text))):
        part, quoted = found[0], found[1] is not None
        for piece in _UNSPACED.findall(part):
            yield Term((fold(piece),), (piece,), piece=True)
        part = _UNSPACED.sub(" ", part)
        written = tuple(part[start:end] for start, end in spans(part))
        if not written:
            continue
        last = written[-1]
        beginning = not quoted and (len(last) >= _BEGINNING or (part.endswith("*") and len(last) > 1))
        yield Term(tuple(map(fold, written)), written, beginning=beginning)


def fold(text: str) -> str:
    """Without case and accents. Line breaks stay where they are."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFD", text.lower())
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart))


def words(text: str) -> Iterator[str]:
    """Folded, in their order."""
    return (fold(text[start:end]) for start, end in spans(text))


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where words stand: runs of letters, digits, and the marks that go with them."""
    if text.isascii():
        for found in _ASCII_WORD.finditer(text):
            yield found.span()
        return
    start = None
    for at, one in enumerate(text):
        category = unicodedata.category(one)
        if category[0] in "LN" or category in {"Mn", "Mc", "Co"}:
            start = at if start is None else start
        elif start is not None:
            yield start, at
            start = None
    if start is not None:
        yield start, len(text)


def occurrences(term: Term, text_words: Sequence[str], folded: str) -> int:
    """How often the term stands in a text, which is given as its words and folded as a whole."""
    if term.piece:
        return folded.count(term.words[0])
    return sum(_begins_at(term, text_words, at) for at in range(len(text_words)))


def _begins_at(term: Term, text_words: Sequence[str], at: int) -> bool:
    stretch = text_words[at : at + len(term.words)]
    if len(stretch) < len(term.words) or list(stretch[:-1]) != list(term.words[:-1]):
        return False
    return stretch[-1].startswith(term.words[-1]) if term.beginning else stretch[-1] == term.words[-1]


def snippet(text: str, query: Query) -> tuple[int, str]:
    """The number of the line that says most of what was looked for, and what of it is shown."""
    sought = [word for term in query.terms for word in term.words]
    lines = text.split("\n")
    folded = fold(text).split("\n")
    best, at, shown = 0, -1, ""
    for number, line in enumerate(folded):
        score = sum(word in line for word in sought)
        if score > best and (found := _stretch(lines[number], line, query, sought)) is not None:
            best, at, shown = score, number, found
            if score == len(sought):
                break
    if at < 0:
        at = next((number for number, line in enumerate(lines) if line.strip()), 0)
        shown = _marked(lines[at], [])
    return at + 1, shown


def _stretch(line: str, folded: str, query: Query, sought: Sequence[str]) -> str | None:
    """What is shown of a line; None where what was looked for is only inside of other words. Of a very long line the
    neighbourhood of its first places is looked at: a document may be one line of 1 MiB."""
    if len(line) <= _LONG:
        marks = list(_marks(line, query))
        return _marked(line, marks) if marks else None
    for place in _places(folded, sought):
        begin = max(place - _AROUND, 0)
        piece = line[begin : place + _LONG]
        if marks := list(_marks(piece, query)):
            shown = _marked(piece, marks)
            return f"… {shown.removeprefix('… ')}" if begin else shown
    return None


def _places(folded: str, sought: Sequence[str]) -> Iterator[int]:
    for word in sought:
        at = folded.find(word)
        for _ in range(_TRIES):
            if at < 0:
                break
            yield at
            at = folded.find(word, at + _LONG)


def _marks(line: str, query: Query) -> Iterator[tuple[int, int]]:
    """Where what was looked for stands in a line."""
    pieces = [piece for piece in query.pieces if piece in line]
    for found in re.finditer("|".join(map(re.escape, pieces)), line) if pieces else ():
        yield found.span()
    stands = list(spans(line))
    said = [fold(line[start:end]) for start, end in stands]
    for term in query.phrases:
        for first in range(len(said)):
            if _begins_at(term, said, first):
                yield stands[first][0], stands[first + len(term.words) - 1][1]


def _marked(line: str, marks: list[tuple[int, int]]) -> str:
    marks.sort()
    first = marks[0][0] if marks else 0
    begin = max(first - _BEFORE, 0)
    if begin:
        space = line.find(" ", begin, first)
        begin = space + 1 if space >= 0 else begin
    end = min(max(begin + _AROUND, marks[0][1] if marks else 0), len(line))
    if end < len(line):
        space = line.rfind(" ", begin + _AROUND // 2, end)
        end = space if space >= 0 else end
    shown, at = ["… " if begin else ""], begin
    for start, stop in marks:
        if start < at or stop > end:
            continue
        shown += [line[at:start], "⟦", line[start:stop], "⟧"]
        at = stop
    return "".join([*shown, line[at:end], " …" if end < len(line) else ""])

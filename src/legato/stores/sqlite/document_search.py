"""Searching documents with FTS5: what was asked as its query language, ranked, a page at a time.

Every word goes in quoted, so nothing a person or a model writes is ever a mistake in that language.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from legato.core.documents import Hit, HitPage
from legato.core.queries import Query, Term, read_query, snippet, spans
from legato.stores import pages
from legato.stores.sqlite.rows import as_json
from legato.stores.sqlite.shelf import inside

# A word in a path says more of what a document is about than one in its text.
_BY_WORDS: Final = """
SELECT path, version, words, text FROM (
    SELECT nr AS found, bm25(document_words, 0.0, 4.0, 1.0) AS score
    FROM document_words JOIN document ON nr = document_words.rowid
    WHERE document_words MATCH :match AND document.owner = :owner AND deleted = 0 AND key >= :first AND key < :last
    AND NOT EXISTS (SELECT 1 FROM json_each(:pieces) WHERE instr(document.text, value) = 0)
    ORDER BY score, key LIMIT :limit OFFSET :offset
) JOIN document ON nr = found ORDER BY score, key
"""
# Without a word that FTS5 could look up every text is read: 20 MB of them in 40 ms.
_BY_PIECES: Final = """
SELECT path, version, words, text FROM (
    SELECT *, (SELECT count(*) FROM json_each(:pieces) WHERE instr(text, value) > 0) AS found,
    (SELECT sum((length(text) - length(replace(text, value, ''))) / length(value)) FROM json_each(:pieces)) AS times
    FROM document WHERE owner = :owner AND deleted = 0 AND key >= :first AND key < :last
) WHERE found >= iif(:every, json_array_length(:pieces), 1)
ORDER BY found DESC, times DESC, key LIMIT :limit OFFSET :offset
"""

_Found = list[tuple[str, int, int, str]]


def search(
    connection: sqlite3.Connection, owner: str, text: str, folder: str, limit: int, before: str | None
) -> HitPage:
    query = read_query(text)
    asked = (text, folder)
    matched: pages.Matched = "all"
    offset = 0
    if before is not None:
        matched, offset = pages.read_hit(before, asked)
    rows = _found(connection, owner, query, folder, matched, limit + 1, offset)
    if not rows and before is None and len(query.terms) > 1:
        matched = "any"
        rows = _found(connection, owner, query, folder, matched, limit + 1, offset)
    follows = pages.after_hit(asked, matched, offset + limit) if len(rows) > limit else None
    return HitPage(data=tuple(_hit(row, query) for row in rows[:limit]), matched=matched, next=follows)


def _found(
    connection: sqlite3.Connection,
    owner: str,
    query: Query,
    folder: str,
    matched: pages.Matched,
    limit: int,
    offset: int,
) -> _Found:
    every = matched == "all"
    first, last = inside(folder)
    values = {"owner": owner, "first": first, "last": last, "limit": limit, "offset": offset, "every": every}
    if query.phrases:
        # Any of the words will do: then the pieces, which FTS5 cannot look up, are left out of it.
        pieces = query.pieces if every else ()
        match = _match(owner, query.phrases, " AND " if every else " OR ")
        return connection.execute(_BY_WORDS, {**values, "match": match, "pieces": as_json(pieces)}).fetchall()
    return connection.execute(_BY_PIECES, {**values, "pieces": as_json(query.pieces)}).fetchall()


def _match(owner: str, phrases: tuple[Term, ...], between: str) -> str:
    said = between.join(f'"{" ".join(one.written)}"{" *" if one.beginning else ""}' for one in phrases)
    theirs = " ".join(owner[start:end] for start, end in spans(owner))
    return f'owner : "{theirs}" AND {{path text}} : ({said})' if theirs else f"{{path text}} : ({said})"


def _hit(row: tuple[str, int, int, str], query: Query) -> Hit:
    path, version, words, text = row
    line, shown = snippet(text, query)
    return Hit(path=path, version=version, words=words, line=line, snippet=shown)

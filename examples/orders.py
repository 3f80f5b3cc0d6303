"""An order desk that never places an order twice, whatever happens to the server in between.

    ORDERS=orders.db .venv/bin/legato serve examples/orders.py
    .venv/bin/legato chat "Order two lamps for Ada, and mark order 1 as sent."

Orders of one customer go out in order (`lane`), large ones only if a person says yes (`needs_approval`). Each is stored
with the call's idempotency key: after a crash `placed` is asked by that key what became of the call.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Annotated, Literal

from legato import ToolContext, ToolError, tool

LARGE = 10
"""Pieces from which on a person is asked."""


@contextlib.contextmanager
def desk() -> Iterator[sqlite3.Connection]:
    """One transaction. In place of this there might be a shop's HTTP API that takes an Idempotency-Key."""
    with contextlib.closing(sqlite3.connect(os.environ.get("ORDERS", "orders.db"))) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, customer TEXT, item TEXT, pieces INTEGER,"
            " state TEXT DEFAULT 'open', key TEXT UNIQUE)"
        )
        yield database


def placed(key: str) -> str | None:
    """Asked after a crash. The row is there, or the order was surely not placed: nothing in between."""
    with desk() as database:
        found = database.execute("SELECT number FROM orders WHERE key = ?", [key]).fetchone()
    if found is None:
        raise ToolError("the order was not placed: the server stopped before; place it again")
    return f"order {found[0]} is placed"


@tool(
    effect="write",
    lane=lambda given: str(given["customer"]),
    needs_approval=lambda given: given["pieces"] >= LARGE,
    reconcile=placed,
)
def place_order(customer: str, item: str, pieces: Annotated[int, "1 or more"], *, ctx: ToolContext) -> str:
    """Place an order. Large ones are shown to a person first."""
    if pieces < 1:
        raise ToolError(f"pieces is {pieces}, expected 1 or more")
    with desk() as database:
        row = (customer, item, pieces, ctx.idempotency_key)
        done = database.execute("INSERT INTO orders (customer, item, pieces, key) VALUES (?, ?, ?, ?)", row)
    return f"order {done.lastrowid} is placed"


@tool(effect="idempotent")
def set_state(number: int, state: Literal["open", "sent", "cancelled"]) -> str:
    """Set the state of an order."""
    with desk() as database:
        done = database.execute("UPDATE orders SET state = ? WHERE number = ?", [state, number])
    if not done.rowcount:
        raise ToolError(f"there is no order {number}")
    return f"order {number} is {state}"


@tool(effect="read")
def find_orders(customer: str) -> list[dict[str, object]]:
    """All orders of a customer."""
    columns = ("number", "item", "pieces", "state")
    with desk() as database:
        rows = database.execute("SELECT number, item, pieces, state FROM orders WHERE customer = ?", [customer])
        return [dict(zip(columns, row, strict=True)) for row in rows]

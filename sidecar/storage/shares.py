"""Frees space when a budget is used up, at the expense of the places that use most of it."""

import sqlite3

from sidecar.fair_share import largest_fair_share

PAGE_BYTES = 4096
LEAF_BYTES = 4050
"""Of a page, for rows; a longer row continues in pages of its own."""


def row_size(length: int) -> int:
    """What a row of so many bytes takes in the file: as many rows as fit share a page, and the rest of it is lost.

    >>> row_size(2100), row_size(100), row_size(9000)
    (4096, 102, 12288)
    """
    if length > LEAF_BYTES:
        return (length // LEAF_BYTES + 1) * PAGE_BYTES
    return PAGE_BYTES // max(LEAF_BYTES // max(length, 1), 1)


def row_size_sql(length: str) -> str:
    """`row_size` as an expression of SQL; the text must be our own, not input."""
    long = f"({length}) / {LEAF_BYTES} + 1"
    return (
        f"iif({length} > {LEAF_BYTES}, ({long}) * {PAGE_BYTES}, {PAGE_BYTES} / max({LEAF_BYTES} / max({length}, 1), 1))"
    )


def shrink(db: sqlite3.Connection, table: str, place: str, weight: str, order: str, target: int) -> None:
    """Delete rows until the sum of `weight` is at most `target`: first of the places with most, then of all.

    Rows that come first in `order` are kept longest; each place keeps one row while any place has two. All texts must
    be our own, not input. Raises sqlite3.Error.
    """
    total = f"SELECT coalesce(sum({weight}), 0) FROM {table}"  # noqa: S608 - our own words, here and below
    sums = db.execute(f"SELECT sum({weight}) FROM {table} GROUP BY {place}").fetchall()  # noqa: S608
    share = largest_fair_share((size for (size,) in sums), target)
    ranked = f"SELECT rowid, sum({weight}) OVER mine AS total, row_number() OVER mine AS number FROM {table}"  # noqa: S608
    for window, most, kept in ((f"PARTITION BY {place} ORDER BY {order}", share, 1), (f"ORDER BY {order}", target, 0)):
        if db.execute(total).fetchone()[0] <= target:
            return
        rows = f"{ranked} WINDOW mine AS ({window})"
        over = f"SELECT rowid FROM ({rows}) WHERE total > ? AND number > ?"  # noqa: S608
        db.execute(f"DELETE FROM {table} WHERE rowid IN ({over})", (most, kept))  # noqa: S608

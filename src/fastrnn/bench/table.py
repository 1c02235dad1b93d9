"""Plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


def _is_number(text: str) -> bool:
    return text[:1].isdigit()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text, the first one as header; columns of numbers are aligned to the right.

    Examples
    --------
    >>> print(table([["shape", "ms"], ["small", "0.25"], ["large", "120"]]))
    shape    ms
    -----  ----
    small  0.25
    large   120
    """
    if len({len(row) for row in rows}) != 1:
        raise ValueError("rows: expected a header, and rows of its length")
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) or not cell for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.rjust(width) if numbers else cell.ljust(width)
            for cell, width, numbers in zip(cells, widths, right, strict=True)
        )
        return "  ".join(placed).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])])

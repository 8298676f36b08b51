"""Checks of data: rows that cannot be used, columns that say nothing, prompts that are cut."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from gram.data.rows import COLUMNS
from gram.doctor.examples import pairs_in
from gram.doctor.facts import Facts
from gram.doctor.finding import Finding, error, ok, skipped, warning
from gram.doctor.table import Column, Table
from gram.errors import DataError, TemplateError
from gram.types import Answer

_MAY_BE_ONE = {"id", "split", "source", "subset", "group", "system", "system_prompt"}
_ALIKE = 0.8  # of 1: how like a name that is read, by difflib
_FEWEST = 4  # rows among which a value that never changes means something
_SOME, _MOST = 0.05, 0.5  # of the prompts that are cut


def rows(facts: Facts) -> Iterator[Finding]:
    """Can all rows be used?"""
    table = facts.rows
    if table is None:
        return
    usable = table.rows - table.bad
    if not usable:
        yield error(
            f"none of the {table.rows} rows can be used: {table.first_bad}", "see docs/data-formats.md"
        )
    elif table.bad:
        yield warning(
            f"{table.bad} of {table.rows} rows cannot be used; the first: {table.first_bad}",
            "mend them, or give --on-error skip to the command that reads them",
        )
    else:
        yield ok(f"{table.rows}, all can be used")


def columns(facts: Facts) -> Iterator[Finding]:
    """Are there columns that are empty, never change, or that nobody reads?"""
    table = facts.rows
    if table is None:
        return
    found = [dead for name, column in table.columns.items() if (dead := _dead(name, column, table))]
    yield from found
    if not found:
        unread = sorted(name for name, column in table.columns.items() if not column.read)
        beside = f"; not read: {', '.join(unread)}" if unread else ""
        yield ok(f"all that are read hold something that varies{beside}")


def _dead(name: str, column: Column, table: Table) -> Finding | None:
    """What is wrong with a column that says nothing, or that nobody reads by mistake."""
    if not column.read:
        meant = get_close_matches(name, COLUMNS - table.columns.keys(), n=1, cutoff=_ALIKE)
        if not meant:
            return None
        return warning(
            f"nothing reads {name!r}; is it {meant[0]!r}?",
            f"give --columns {meant[0]}={name}, or rename it",
        )
    if not column.filled:
        return warning(f"{name!r} is empty in every row", "fill it, or leave it out (--columns ignore=...)")
    if column.varies or column.filled < _FEWEST or name in _MAY_BE_ONE:
        return None
    return warning(
        f"{name!r} is the same in all {column.filled} rows that have it ({str(column.first)[:40]!r})",
        "look how the file was made: nothing can be learned or measured from it",
    )


def lengths(facts: Facts) -> Iterator[Finding]:
    """How many prompts are cut, and which cannot be shown at all?"""
    if facts.rows is None:
        return
    limit, cut, count, refused, reason = facts.prompts.max_length, 0, 0, 0, ""
    items = [*pairs_in(facts.rows.items), *(item for item in facts.rows.items if isinstance(item, Answer))]
    for item in items:
        if facts.kind == "judge" and isinstance(item, Answer):
            continue
        try:
            encoded = facts.rendered(item)
        except (DataError, TemplateError) as error_of_row:
            refused, reason = refused + 1, reason or str(error_of_row)
            continue
        count += len(encoded)
        cut += sum(bool(prompt.cut) for prompt in encoded)
    if refused:
        yield error(
            f"{refused} of {len(items)} rows cannot be shown to the model: {reason}",
            "leave them out (--on-error skip), or change the chat template",
        )
    if not count:
        yield skipped(f"no rows that a {facts.kind} can be asked about")
    else:
        yield _share_cut(cut, count, limit)


def _share_cut(cut: int, count: int, limit: int) -> Finding:
    says = (
        f"{cut} of {count} prompts ({cut / count:.0%}) are longer than {limit} tokens and lose their middle"
    )
    do = "give a larger --max-length if the model reads more, or take a model with a longer context"
    if cut > _MOST * count:
        return error(says, do)
    return warning(says, do) if cut > _SOME * count else ok(says)

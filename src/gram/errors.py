"""The error vocabulary: one class per whose fault it is. Knows nothing of the rest of the package.

Every message names the thing to fix. ``gram`` (the command) prints a ``GramError``, or an ``OSError`` that
names a file, as one line and exits with 1; anything else that escapes is a bug of ours and keeps its
traceback.
"""

from __future__ import annotations


class GramError(Exception):
    """Something the user can mend."""


class DataError(GramError):
    """A row, or a whole file, that cannot be used.

    Example:
        >>> print(DataError("expected a string", file="pairs.jsonl", line=3, field="chosen"))
        pairs.jsonl:3: field 'chosen': expected a string
    """

    def __init__(
        self, reason: str, *, file: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.reason = reason
        self.file = file
        self.line = line
        self.field = field
        place = ":".join(str(part) for part in (file, line) if part is not None)
        message = f"field '{field}': {reason}" if field else reason
        super().__init__(f"{place}: {message}" if place else message)


class WrongTypeError(DataError, TypeError):
    """A value of a type that cannot be read in its place; the error names the argument and the place.

    It is Python's ``TypeError`` too, which callers of a library expect.
    """


class NoRowsError(DataError):
    """A source that can be read, but has no usable row of the split asked for."""


class ConfigError(GramError):
    """An option, or a combination of options, that makes no sense."""


class MissingLibraryError(ConfigError, ModuleNotFoundError):
    """A library is not installed; says which extra of the package brings it.

    It is Python's ``ModuleNotFoundError`` too.
    """


class OutputError(GramError):
    """An output that cannot be written: another process writes it, or the disk is full, or read-only."""


class TemplateError(GramError):
    """A judge template, or its label words, that the tokenizer cannot serve."""


class CheckpointError(GramError):
    """A model folder that is missing, broken, or of another kind than asked for."""


class FetchError(GramError):
    """A model of the catalogue that cannot be fetched: no network, no room, a tool missing, or forbidden."""


class TrainingError(GramError):
    """Training that cannot go on: a loss that is not finite, or that diverges."""


class ScoringError(GramError):
    """A model that gave no usable answer."""


class UnreachableError(ScoringError):
    """A server that cannot be reached, or gives no answer in time: the fault of no row, and so of all."""

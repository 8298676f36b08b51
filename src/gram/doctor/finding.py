"""A finding: one line of what the doctor says. Knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warning", "error", "skipped"]

_WIDTH = 15  # of the names of checks


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        level: ``error``: scores are wrong, or there are none; ``warning``: they may mean something else than
            you think; ``skipped``: could not be looked at.
        says: what was found, with its numbers.
        do: what to do about it; empty where nothing is to be done.
        check: name of the check; ``examine`` fills it in.

    Example:
        >>> print(Finding("warning", "two of three are cut", "give --max-length", "lengths").text)
        warning  lengths          two of three are cut
                                  -> give --max-length
    """

    level: Level
    says: str
    do: str = ""
    check: str = ""

    @property
    def text(self) -> str:
        """For people; two lines where something is to be done."""
        first = f"{self.level:<8} {self.check:<{_WIDTH}}  {self.says}"
        return f"{first}\n{' ' * (_WIDTH + 11)}-> {self.do}" if self.do else first

    def to_json(self) -> dict[str, str]:
        return {"check": self.check, "level": self.level, "says": self.says, "do": self.do}


def ok(says: str) -> Finding:
    """All is well."""
    return Finding("ok", says)


def warning(says: str, do: str) -> Finding:
    """Scores may mean something else than their user thinks."""
    return Finding("warning", says, do)


def error(says: str, do: str) -> Finding:
    """Scores are wrong, or there are none."""
    return Finding("error", says, do)


def skipped(why: str, do: str = "") -> Finding:
    """The question could not be answered."""
    return Finding("skipped", f"not checked: {why}", do)

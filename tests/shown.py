"""What README.md and docs/ show in code blocks, as commands; knows Markdown and a shell's quotes only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
)
PROGRAMS = (
    *("gram", "python", "pip", "make", "torchrun", "accelerate", "vllm"),
    *("curl", "git", "head", "export", "for"),
)
"""What a command begins with, after variables (``NAME=value``)."""

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?"  # "run" or "shown" and more: a test of that page runs it
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(rf"\s*(\w+=\S+ )*(\S*/)?({'|'.join(PROGRAMS)})\b(?!\.)")


@dataclass(frozen=True)
class Block:
    """A code block of a page; ``mark`` is the comment right above it."""

    page: str
    mark: str
    language: str
    text: str

    @property
    def has_commands(self) -> bool:
        """Whether its first line is one; blocks with a language (``python``, ``json``) have none."""
        return not self.language and _COMMAND.match(self.text) is not None


def blocks(page: str) -> Iterator[Block]:
    """The code blocks of a page, in their order."""
    for found in _BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        lines = found["text"].splitlines(keepends=True)
        text = "".join(line.removeprefix(found["indent"]) for line in lines)
        yield Block(page, found["mark"] or "", found["language"], text)


def commands(text: str) -> Iterator[str]:
    r"""The commands of a block: lines that go on after a backslash, in quotes or in a loop are one.

    Example:
        >>> list(commands("gram a \\\n  --b  # c\nfor x in y; do\n  gram $x\ndone\ncurl -d '{\n}'\n"))
        ['gram a   --b  # c', 'for x in y; do\n  gram $x\ndone', "curl -d '{\n}'"]
    """
    gathered = ""
    for line in text.replace("\\\n", "").splitlines():
        gathered += line
        if gathered.strip() and _complete(gathered):
            yield gathered
            gathered = ""
        elif gathered:
            gathered += "\n"
    assert not gathered.strip(), f"no end: {gathered}"


def words(command: str) -> list[str]:
    """As a shell reads them, without its comment."""
    return shlex.split(command, comments=True)


def _complete(text: str) -> bool:
    try:
        found = words(text)
    except ValueError:  # an open quote
        return False
    return found.count("for") == found.count("done")

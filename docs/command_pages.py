"""The commands and all their options as Markdown, made from the code: ``python docs/command_pages.py``.

A command is a dataclass: its docstring is what the command does, a field is an option, and the text below
the field is what the option means. ``gram COMMAND --help`` is made from the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module

from gram.cli.main import COMMANDS
from gram.described import Described, described, title_of

_WORDS = {"INTEGER": "integer", "NUMBER": "number", "TEXT": "text", "PATH": "path"}


def commands() -> str:
    """All commands, in the order of ``gram --help``; options of several commands stand once, at the end."""
    kinds = {name: import_module(f"gram.cli.{name}").Config for name in COMMANDS}
    groups = {name: _groups(kind) for name, kind in kinds.items()}
    owners = [owner for group in groups.values() for owner in group]
    shared: dict[type, list[str]] = {}
    for group in groups.values():
        for owner, rows in group.items():
            if owners.count(owner) > 1:  # a command may say a shared option anew, and lacks its row here
                shared[owner] = max(rows, shared.get(owner, []), key=len)
    lines = []
    for name, kind in kinds.items():
        summary = COMMANDS[name]
        lines += [f"## gram {name}", f"*{summary[0].upper()}{summary[1:]}.*", inspect.getdoc(kind) or ""]
        for owner in groups[name]:
            if owner not in shared:
                lines += _tables(option for option in described(kind) if option.owner is owner)
        links = [f"[{title_of(owner)}](#{_anchor(owner)})" for owner in groups[name] if owner in shared]
        lines += ["And the options that several commands share: " + "; ".join(links) + "."] if links else []
    lines += ["## Options that several commands share"]
    for owner, rows in shared.items():
        lines += [f"### {title_of(owner)} {{ #{_anchor(owner)} }}", _table(rows)]
    return "\n\n".join(line for line in lines if line)


def _groups(kind: type) -> dict[type, list[str]]:
    """The rows of a command's options by the class that declares them, its own first."""
    options = described(kind)
    owners = sorted({option.owner for option in options}, key=kind.__mro__.index)
    return {owner: [_row(option) for option in options if option.owner is owner] for owner in owners}


def _tables(options: Iterable[Described]) -> Iterator[str]:
    """The options of one class: what is required, and the others by the headings among them."""
    by_heading: dict[str, list[str]] = {}
    for option in options:
        by_heading.setdefault(option.heading, []).append(_row(option))
    for heading, rows in by_heading.items():
        yield f"**{heading}**" if heading else ""
        yield _table(rows)


def _anchor(owner: type) -> str:
    return owner.__name__.lower()


def _table(rows: Sequence[str]) -> str:
    return "\n".join(["| option | value | what it does |", "| --- | --- | --- |", *rows])


def _row(option: Described) -> str:
    flag = f"`{option.flag}`" + (f", `--no-{option.name}`" if option.switch else "")
    value = ", ".join(f"`{choice}`" for choice in option.choices) or _WORDS.get(option.value, "")
    if option.several:
        value = f"one or more: {value}"
    default = "**required**" if option.required else option.default and f"default `{option.default}`"
    notes = "; ".join(part for part in (value, option.limits, default) if part)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (flag, notes, option.text)) + " |"


if __name__ == "__main__":
    print(commands())

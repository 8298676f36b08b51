"""The commands and all their options as Markdown, made from the code: ``python docs/command_pages.py``.

A command is a dataclass: its docstring is what the command does, a field is an option, and the text below
the field is what the option means. ``gram COMMAND --help`` is made from the same.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from gram.bounds import numbers_of
from gram.cli.main import COMMANDS
from gram.config_file import option_of

_TITLES = {
    "ModelFlags": "The model",
    "LoadOptions": "Where it is found",
    "Running": "How it runs",
    "Asking": "How it is asked",
    "ModelOptions": "Several models, several processes",
    "InputOptions": "Rows",
    "RankOptions": "Schedules",
    "ModelSource": "The model by its name",
}
"""Headings of the options that several commands share; without one, it is what the class says of itself."""
_WORDS = {int: "integer", float: "number", str: "text", Path: "path"}


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
        lines += [_table(rows) for owner, rows in groups[name].items() if owner not in shared]
        links = [f"[{_title(owner)}](#{_anchor(owner)})" for owner in groups[name] if owner in shared]
        lines += ["And the options that several commands share: " + "; ".join(links) + "."] if links else []
    lines += ["## Options that several commands share"]
    for owner, rows in shared.items():
        lines += [f"### {_title(owner)} {{ #{_anchor(owner)} }}", _table(rows)]
    return "\n\n".join(line for line in lines if line)


def _groups(kind: type) -> dict[type, list[str]]:
    """The rows of a command's options by the class that declares them, its own first."""
    ranges = {name: within.words(int) for name, _, within in numbers_of(kind)}
    groups: dict[type, list[str]] = {}
    for item in fields(kind):
        if item.init:
            owner = next(part for part in kind.__mro__ if item.name in inspect.get_annotations(part))
            groups.setdefault(owner, []).append(_row(kind, owner, item, ranges.get(item.name, "")))
    return {owner: groups[owner] for owner in sorted(groups, key=kind.__mro__.index)}


def _title(owner: type) -> str:
    own_words = (inspect.getdoc(owner) or owner.__name__).splitlines()[0].rstrip(".").replace("``", "`")
    return _TITLES.get(owner.__name__, own_words)


def _anchor(owner: type) -> str:
    return owner.__name__.lower()


def _table(rows: list[str]) -> str:
    return "\n".join(["| option | value | what it does |", "| --- | --- | --- |", *rows])


def _row(kind: type, owner: type, item: Field[Any], within: str) -> str:
    name = option_of(item.name).replace("_", "-")
    hint = get_type_hints(kind)[item.name]
    flag = f"`--{name}`"
    if tyro.conf.Positional in getattr(
        get_type_hints(kind, include_extras=True)[item.name], "__metadata__", ()
    ):
        flag = f"`{name.upper()}`"
    elif hint is bool:
        flag = f"`--{name}`, `--no-{name}`"
    value = "; ".join(part for part in (_values(hint), within, _default(item)) if part)
    cells = flag, value, " ".join(_texts(owner)[item.name].split())
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(hint: Any) -> str:
    """What may stand behind the option."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bool:
        return ""
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_values(part) for part in arguments if part is not type(None)))
    if origin is list:
        return f"one or more: {_values(arguments[0])}"
    return _WORDS[hint]


def _default(item: Field[Any]) -> str:
    if item.default is MISSING and item.default_factory is MISSING:
        return "**required**"
    if item.default in (MISSING, None, False):
        return ""  # its text says what happens then
    return "on" if item.default is True else f"default `{item.default}`"


@cache
def _texts(kind: type) -> dict[str, str]:
    """The text below each field that ``kind`` declares."""
    return dict(_documented(ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]))


def _documented(body: ast.stmt) -> Iterator[tuple[str, str]]:
    assert isinstance(body, ast.ClassDef)
    for line, after in zip(body.body, body.body[1:], strict=False):
        match line, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as text)),
            ):
                yield name, text


if __name__ == "__main__":
    print(commands())

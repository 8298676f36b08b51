"""The options of a configuration as people read them: names, values, texts, and ``--help``.

An option is a field of a dataclass, and its text is the string below the field. Options are grouped by the
class that declares them, and within it by headings in its source (``# --- Data ---``). Knows dataclasses and
their source; is told the commands.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gram.bounds import Within, numbers_of
from gram.config_file import option_of

_WORDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
_INDENT, _GAP = 2, 2
_HEADING = re.compile(r" *# --- (.+) ---$")


@dataclass(frozen=True)
class Described:
    """One option.

    Attributes:
        name: as in its flag, without dashes in front.
        owner: the class that declares it.
        heading: the last heading above it in the source; empty where there is none.
        text: what it does.
        value: what stands behind the flag: a word such as INTEGER, or the choices; empty for a switch.
        choices: the values that may stand there, if they can be listed.
        limits: the range of a number in words, where it is narrow.
        default: empty where there is none, or where the text says what happens then.
        required: whether it must be given.
        switch: whether it is on or off, and ``--no-NAME`` turns it off.
        several: whether several values may follow.
        positional: whether it has no flag and stands by itself.
    """

    name: str
    owner: type
    heading: str
    text: str
    value: str
    choices: tuple[str, ...]
    limits: str
    default: str
    required: bool
    switch: bool
    several: bool
    positional: bool

    @property
    def flag(self) -> str:
        """The option as it is typed."""
        return self.name.upper() if self.positional else f"--{self.name}"


@lru_cache
def described(kind: type[Any]) -> tuple[Described, ...]:
    """The options of a dataclass, in the order of its fields.

    Example:
        >>> from gram.asking import Running
        >>> [option.flag for option in described(Running)][:2], described(Running)[2].choices
        (['--device', '--dtype'], ('tree', 'plain'))
        >>> described(Running)[0].text
        'cpu or cuda. Default: cuda where there is one.'
    """
    import tyro

    hints, noted = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    limits = {name: within.words(int) for name, _, within in numbers_of(kind) if _narrow(within)}
    options = []
    for item in fields(kind):
        if item.init:
            owner = next(part for part in kind.__mro__ if item.name in inspect.get_annotations(part))
            hint, several = _bare(hints[item.name])
            heading, text = _texts(owner).get(item.name, ("", ""))
            options.append(
                Described(
                    name=option_of(item.name).replace("_", "-"),
                    owner=owner,
                    heading=heading,
                    text=text,
                    value=_value(hint),
                    choices=tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else (),
                    limits=limits.get(item.name, ""),
                    default=_default(item),
                    required=item.default is MISSING and item.default_factory is MISSING,
                    switch=hint is bool,
                    several=several,
                    positional=tyro.conf.Positional in getattr(noted[item.name], "__metadata__", ()),
                )
            )
    return tuple(options)


def _narrow(within: Within) -> bool:
    """Whether a reader has to be told; that there is no batch of 0 rows goes without saying."""
    return within.most is not None and within.most < 1_000


def title_of(owner: type) -> str:
    """The heading of the options that a class declares: how its docstring begins."""
    line = (inspect.getdoc(owner) or owner.__name__).splitlines()[0].replace("``", "")
    return min((f"{line} ".partition(mark)[0] for mark in (". ", ": ", " (")), key=len).strip()


def overview(commands: Mapping[str, str]) -> str:
    """What the program prints without a command: the commands and what they do, and where to go on."""
    lines = [f"  {name:<8} {description}" for name, description in commands.items()]
    return "\n".join(
        [
            "gram: generative foundation reward models",
            "",
            "usage: gram COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "First steps: gram demo --quick; or, with rows of your own,",
            "  gram score --model gram-135m --input pairs.jsonl --output scores.jsonl",
            "",
            "gram COMMAND --help lists the options; --config FILE.yaml gives them from a file, flags win.",
            "gram --print-completion bash (or zsh, fish) prints a script that completes them.",
            "Each command ends with one JSON line on stdout.",
        ]
    )


def help_page(kind: type[Any], program: str, width: int) -> str:
    """What ``--help`` prints: what the command does, what is required, and the options by their groups."""
    options = described(kind)
    needed = [option for option in options if option.required]
    groups: dict[str, list[Described]] = {"Required": needed, "Options": []}
    for owner in kind.__mro__:
        title = "Options" if owner is kind else title_of(owner)
        for option in options:
            if option.owner is owner and not option.required:
                groups.setdefault(option.heading or title, []).append(option)
    places = [
        _shown(option) if option.required else f"[{_shown(option)}]"
        for option in options
        if option.positional
    ]
    usage = " ".join([*places, *(_shown(option) for option in needed if not option.positional)])
    start = f"usage: {program} "
    about = [_filled(" ".join(part.split()), width) for part in (inspect.getdoc(kind) or "").split("\n\n")]
    general = (
        "--config FILE.yaml gives any of these options, by the same names; flags win. A switch --name is "
        "turned off by --no-name."
    )
    pages = [
        _filled(f"{start}{usage} [OPTIONS]".replace("  ", " "), width, rest=" " * len(start)),
        *about,
    ]
    pages += [_group(title, group, width) for title, group in groups.items() if group]
    return "\n\n".join([*pages, _filled(general, width)])


def _filled(text: str, width: int, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _group(title: str, options: list[Described], width: int) -> str:
    column = 28
    lines = [f"{title}:"]
    for option in options:
        notes = [note for note in (option.limits, option.default and f"default: {option.default}") if note]
        text = option.text + (f" ({'; '.join(notes)})" if notes else "")
        head = f"{' ' * _INDENT}{_shown(option)}"
        pad = " " * column
        body = _filled(text, width, pad, pad)
        if len(head) + _GAP <= column:
            lines.append(head + body[len(head) :])
        else:
            lines += [_filled(head, width, rest=" " * 2 * _INDENT), body]
    return "\n".join(lines)


def _shown(option: Described) -> str:
    """The option with what stands behind it."""
    value = option.value + (" ..." if option.several else "")
    if option.positional:
        return (option.value if option.choices else option.flag) + (" ..." if option.several else "")
    return f"{option.flag} {value}".rstrip()


def _bare(hint: Any) -> tuple[Any, bool]:
    """A type without ``None``, and that of a list's items; whether it was a list."""
    if get_origin(hint) in (Union, UnionType):
        kinds = [part for part in get_args(hint) if part is not type(None)]
        return (Path if Path in kinds else kinds[0]), False
    if get_origin(hint) is list:
        return get_args(hint)[0], True
    return hint, False


def _value(hint: Any) -> str:
    if hint is bool:
        return ""
    if get_origin(hint) is Literal:
        return f"{{{','.join(map(str, get_args(hint)))}}}"
    return _WORDS[hint]


def _default(item: Field[Any]) -> str:
    value = item.default
    return "" if value is MISSING or value is None or value is False else str(value)


@lru_cache
def _texts(kind: type[Any]) -> dict[str, tuple[str, str]]:
    """Heading and text of each field that ``kind`` declares; nothing where the source is not at hand."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    declaration = ast.parse(source).body[0]
    assert isinstance(declaration, ast.ClassDef)
    headings = {
        number: found[1]
        for number, line in enumerate(source.splitlines(), 1)
        if (found := _HEADING.match(line))
    }
    texts = {}
    for line, after in pairwise(declaration.body):
        match line, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as text)),
            ):
                above = [heading for number, heading in headings.items() if number < line.lineno]
                texts[name] = (above[-1] if above else "", " ".join(text.split()))
    return texts

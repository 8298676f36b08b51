"""Flags and a YAML file to the dataclass that describes a command: flags win.

Knows dataclasses, tyro and YAML files; knows no command.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from gram.bounds import check_bounds
from gram.config_file import as_flags, read_values, refuse_replaced_flags
from gram.errors import ConfigError
from gram.paths import at_home


def parse(
    kind: type[Any], arguments: list[str], program: str, renamed: Mapping[str, str] | None = None
) -> Any:
    """The dataclass ``kind`` from flags, over the values of ``--config FILE`` where it is given.

    Args:
        renamed: old names of options, and the new ones; they are read, with a warning on stderr.

    Raises:
        ConfigError: naming the option at fault.
        SystemExit: after ``--help`` (0), or for unknown or wrong flags (2).
    """
    import tyro

    renamed = renamed or {}
    flags, path = _without_config([_expanded(argument) for argument in arguments])
    flags = [_with_new_name(flag, renamed, program) for flag in flags]
    refuse_replaced_flags(kind, flags)
    hints = get_type_hints(kind, include_extras=True)
    _refuse_repeated([name for name, hint in hints.items() if get_origin(hint) is list], flags)
    values = read_values(kind, path, renamed) if path else {}
    for name, hint in hints.items():
        if name in values and tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            raise ConfigError(f"{path}: '{name}' has no flag; give it on the command line")
    from_file = as_flags(values)
    config = tyro.cli(
        kind,
        args=[*from_file, *flags],  # of an option in both the last wins
        prog=program,
        description=f"{getdoc(kind)}\n\n--config FILE.yaml gives any of these options; flags win.",
    )
    check_bounds(config)
    return config


def config_path(arguments: Sequence[str]) -> Path | None:
    """The file that ``--config`` names among ``arguments``.

    Raises:
        ConfigError: it names none.

    Example:
        >>> config_path(["--seed", "3", "--config", "run.yaml"])
        PosixPath('run.yaml')
    """
    return _without_config(arguments)[1]


def _expanded(argument: str) -> str:
    """``--option=~/x`` as the shell gives ``--option ~/x``: it expands ``~`` at the start of words only."""
    name, mark, value = argument.partition("=")
    expands = name.startswith("--") and value.startswith("~")
    return f"{name}{mark}{at_home(value)}" if expands else argument


def _with_new_name(argument: str, renamed: Mapping[str, str], program: str) -> str:
    name, mark, value = argument.partition("=")
    new = renamed.get(name.removeprefix("--").replace("-", "_")) if name.startswith("--") else None
    if new is None:
        return argument
    option = f"--{new.replace('_', '-')}"
    print(f"{program}: {name} is now {option}; the old name goes with the next release", file=sys.stderr)
    return f"{option}{mark}{value}"


def _without_config(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments without ``--config FILE``, and the file."""
    rest, path = [], None
    iterator = iter(arguments)
    for argument in iterator:
        if argument == "--config":
            value = next(iterator, None)
            if value is None:
                raise ConfigError("--config needs a file")
            path = Path(value)
        elif argument.startswith("--config="):
            path = Path(argument.partition("=")[2])
        else:
            rest.append(argument)
    return rest, path


def _refuse_repeated(lists: list[str], flags: list[str]) -> None:
    """Refuse a list option that is given twice: only the last values would count, unnoticed."""
    names = [flag.partition("=")[0].replace("_", "-") for flag in flags]
    for option in (f"--{name.replace('_', '-')}" for name in lists):
        times = names.count(option)
        if times > 1:
            raise ConfigError(f"{option} is given {times} times: give all values after one {option}")

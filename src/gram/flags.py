"""Flags and a YAML file to the dataclass that describes a command: flags win.

Knows dataclasses, tyro and YAML files; knows no command. tyro reads the flags; what is said of them, in
``--help`` and of a wrong one, is ours (``gram.described``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field, make_dataclass
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, NoReturn, get_origin, get_type_hints

from gram.bounds import check_bounds
from gram.config_file import as_flags, did_you_mean, read_values, refuse_replaced_flags
from gram.described import described, help_page
from gram.errors import ConfigError
from gram.paths import at_home

SHELLS = ("bash", "zsh", "fish")


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

    if any(argument in ("-h", "--help") for argument in arguments):
        print(help_page(kind, program, min(100, get_terminal_size((100, 24)).columns)))
        raise SystemExit(0)
    renamed = renamed or {}
    flags, path = _without_config([_expanded(argument) for argument in arguments])
    flags = [_with_new_name(flag, renamed, program) for flag in flags]
    refuse_replaced_flags(kind, flags)
    _refuse_unknown(kind, flags, program)
    hints = get_type_hints(kind, include_extras=True)
    _refuse_repeated([name for name, hint in hints.items() if get_origin(hint) is list], flags)
    values = read_values(kind, path, renamed) if path else {}
    for name, hint in hints.items():
        if name in values and tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            raise ConfigError(f"{path}: '{name}' has no flag; give it on the command line")
    from_file = as_flags(values)
    config = tyro.cli(kind, args=[*from_file, *flags], prog=program)  # of an option in both the last wins
    check_bounds(config)
    return config


def print_completion(kinds: Mapping[str, type[Any]], program: str, shells: Sequence[str]) -> None:
    """Print the script by which a shell completes commands, options and their values.

    Args:
        kinds: the commands, each with the dataclass of its options.
        shells: the name of one: bash, zsh or fish.

    Raises:
        ConfigError: no such shell, or not one.
    """
    import tyro

    if len(shells) != 1 or shells[0] not in SHELLS:
        raise ConfigError(f"give the name of one shell: {', '.join(SHELLS)}")
    with_config = {name: _with_config(kind) for name, kind in kinds.items()}
    with suppress(SystemExit):  # how tyro ends after printing
        tyro.extras.subcommand_cli_from_dict(
            with_config, prog=program, args=["--tyro-print-completion", shells[0]]
        )


def _with_config(kind: type[Any]) -> type[Any]:
    """The dataclass with ``--config`` among its options."""
    frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    option = ("config", Path | None, field(default=None, kw_only=True))
    return make_dataclass(kind.__name__, [option], bases=(kind,), frozen=frozen)


def _refuse_unknown(kind: type[Any], flags: Sequence[str], program: str) -> None:
    """End with what may have been meant, for a flag that does not exist or a choice that is none."""
    options = {option.name: option for option in described(kind) if not option.positional}
    for place, flag in enumerate(flags):
        if not flag.startswith("--") or flag == "--":
            continue
        spelled, mark, value = flag.partition("=")
        name = spelled.removeprefix("--").replace("_", "-")
        off = name.removeprefix("no-")
        if off != name and off in options and options[off].switch:
            continue
        if name not in options:
            near = did_you_mean(name, options, "--")
            _end(program, f"no option {spelled}{near}")
        choices = options[name].choices
        given = [value] if mark else flags[place + 1 : place + 2]
        if given == [""] and options[name].value == "PATH":  # a variable of the shell that is not set
            raise ConfigError(f"{spelled} is empty: leave it out, or name one")
        if choices and given and given[0] not in (*choices, "None"):
            near = did_you_mean(given[0], choices)
            _end(program, f"{spelled} must be one of {', '.join(choices)}, not '{given[0]}'{near}")


def _end(program: str, message: str) -> NoReturn:
    print(f"{program}: {message}\n{program} --help lists all options", file=sys.stderr)
    raise SystemExit(2)


def config_path(arguments: Sequence[str]) -> Path | None:
    """The file that ``--config`` names among ``arguments``.

    Raises:
        ConfigError: it names none, or is given twice.

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
    """The arguments without ``--config FILE``, and the file.

    Raises:
        ConfigError: there is no file behind it, or it is given twice.
    """
    rest: list[str] = []
    paths: list[Path] = []
    iterator = iter(arguments)
    for argument in iterator:
        if argument == "--config":
            value = next(iterator, None)
            if value is None:
                raise ConfigError("--config needs a file")
            paths.append(Path(value))
        elif argument.startswith("--config="):
            paths.append(Path(argument.partition("=")[2]))
        else:
            rest.append(argument)
    if len(paths) > 1:
        raise ConfigError(f"--config is given {len(paths)} times: give one file; flags win over what it says")
    return rest, paths[0] if paths else None


def _refuse_repeated(lists: list[str], flags: list[str]) -> None:
    """Refuse a list option that is given twice: only the last values would count, unnoticed."""
    names = [flag.partition("=")[0].replace("_", "-") for flag in flags]
    for option in (f"--{name.replace('_', '-')}" for name in lists):
        times = names.count(option)
        if times > 1:
            raise ConfigError(f"{option} is given {times} times: give all values after one {option}")

"""``gram COMMAND``: finds the command, merges ``--config`` with the flags, prints the result as JSON.

Flags win over the configuration file. Stdout gets one JSON line; progress and errors go to stderr. Exit
codes: 0 done, 1 an error that is the user's to mend, 2 a wrong use of options, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from inspect import getdoc
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from gram.bounds import check_bounds
from gram.claims import reading
from gram.config_file import as_flags, read_values, refuse_replaced_flags
from gram.errors import ConfigError, GramError
from gram.files import finite
from gram.paths import at_home

COMMANDS = {
    "demo": "the whole idea in a small world: learn without labels, align with few, rank",
    "train": "train a model: stage 1 on unlabeled answers, stage 2 on preferences",
    "adapt": "adapt a trained model to a new task with a few labels, unless the old one is better",
    "score": "score pairs, candidates or single answers from a file",
    "eval": "measure a model on benchmarks and preference data, beside the floors",
    "report": "put runs of eval side by side",
    "rank": "rank the candidate answers of each prompt",
    "mine": "write chosen and rejected answers from ranked candidates",
    "bench": "time scoring or training beside what others do",
    "fetch": "bring a language model to this machine, to start from",
}

RENAMED = {"eval": {"limit": "max_per_source"}, "adapt": {"limit": "max_per_source"}}
"""Per command, options of the last release and their names now; read with a warning until the next."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"gram {version('gram-rm')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"gram: no command '{name}'; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        command = import_module(f"gram.cli.{name}")
        with reading(_without_config(rest)[1]):
            result = command.run(parse(command.Config, rest, f"gram {name}", RENAMED.get(name, {})))
        if result is not None:
            line = json.dumps(finite(result), ensure_ascii=False)
            print(line.encode(errors="backslashreplace").decode(), flush=True)  # a path may be no UTF-8
    except GramError as error:
        print(f"gram {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        place = "stdout" if isinstance(error, BrokenPipeError) else error.filename
        print(f"gram {name}: {f'{place}: ' if place else ''}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"gram {name}: interrupted", file=sys.stderr)
        return 130
    except SystemExit as leaving:  # of the option parser: 0 after --help, 2 after a wrong option
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


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


def _without_config(arguments: list[str]) -> tuple[list[str], Path | None]:
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


def _overview() -> str:
    lines = [f"  {name:<8} {description}" for name, description in COMMANDS.items()]
    return "\n".join(
        [
            "gram: generative foundation reward models",
            "",
            "usage: gram COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "gram COMMAND --help lists the options; --config FILE.yaml gives them from a file, flags win.",
            "Each command ends with one JSON line on stdout.",
        ]
    )

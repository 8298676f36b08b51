"""Dataclasses from YAML files, with strict names and types. Knows dataclasses, not what they configure."""

from __future__ import annotations

import csv
import io
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gram.errors import ConfigError
from gram.paths import at_home

Config = TypeVar("Config")
READABLE_AS_MAPPING = {"mapping": True}
"""Metadata of an option written as NAME=VALUE,...: a file may give it as a mapping."""


def option_of(name: str) -> str:
    """The option that a field stands for; ``from_`` is ``from``, which Python keeps for itself.

    Example:
        >>> option_of("max_steps"), option_of("from_")
        ('max_steps', 'from')
    """
    return name.removesuffix("_")


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names that may have been meant, at most three: spelled alike, part of one another, or initials.

    Example:
        >>> nearest("modle", ["model", "max-length"]), nearest("lr", ["lora", "learning-rate"])
        (['model'], ['learning-rate'])
        >>> nearest("max-seq-length", ["max-length", "seed"]), nearest("colour", ["model"])
        (['max-length'], [])
    """
    known = list(names)
    initials = [one for one in known if "".join(word[0] for word in one.split("-") if word) == name]
    parts = [one for one in known if min(len(one), len(name)) > 2 and (one in name or name in one)]
    alike = get_close_matches(name, known, n=3, cutoff=0.7)
    return list(dict.fromkeys([*initials, *alike, *parts]))[:3]


def did_you_mean(name: str, names: Iterable[str], mark: str = "") -> str:
    """A question to put behind "no such name"; empty where nothing is near.

    Args:
        mark: what stands in front of each name, such as ``--``.

    Example:
        >>> did_you_mean("scor", ["score", "rank"])
        '; did you mean score?'
    """
    near = nearest(name, names)
    return f"; did you mean {' or '.join(mark + one for one in near)}?" if near else ""


def replaces(*names: str) -> dict[str, Any]:
    """Metadata of an option that took the place of others, whose values it cannot read.

    Example:
        >>> from dataclasses import field, make_dataclass
        >>> Run = make_dataclass("Run", [("dtype", str, field(default="fp32", metadata=replaces("half")))])
        >>> refuse_replaced_flags(Run, ["--half"])
        Traceback (most recent call last):
        gram.errors.ConfigError: --half is no option any more: --dtype has taken its place
    """
    return {"replaces": names}


def refuse_replaced_flags(kind: type[Any], flags: Sequence[str]) -> None:
    """Refuse flags of options that others have replaced.

    Raises:
        ConfigError: naming the new option, and what can stand there.
    """
    for flag in flags:
        if flag.startswith("--"):
            name = flag.partition("=")[0].removeprefix("--").removeprefix("no-")
            _refuse_replaced(kind, name.replace("-", "_"), flag, _flag_of)


def _flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _refuse_replaced(kind: type[Any], name: str, place: str, spelled: Callable[[str], str] = str) -> None:
    for item in fields(kind):
        if name in item.metadata.get("replaces", ()):
            hint = get_type_hints(kind)[item.name]
            values = f" ({', '.join(get_args(hint))})" if get_origin(hint) is Literal else ""
            raise ConfigError(
                f"{place} is no option any more: {spelled(item.name)}{values} has taken its place"
            )


def read_values(kind: type[Any], path: Path, renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The values that a YAML file gives to fields of the dataclass ``kind``, checked by name and type.

    Args:
        renamed: old names of fields and their new names; an old name is accepted with a warning on stderr.

    Raises:
        ConfigError: naming the file and the option.
    """
    import yaml

    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    try:
        text = path.read_text(encoding="utf-8")
        node, content = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # or no UTF-8, or beyond all measure
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must map option names to values")
    _refuse_doubles(node, path, renamed or {})
    assert is_dataclass(kind)
    hints = get_type_hints(kind)
    options = {option_of(item.name): hints[item.name] for item in fields(kind) if item.init}
    mappings = {option_of(item.name) for item in fields(kind) if item.metadata.get("mapping")}
    values = {}
    for raw_name, value in content.items():
        name = str(raw_name).replace("-", "_")
        if new := (renamed or {}).get(name):
            print(
                f"{path}: {raw_name} is now {new}; the old name goes with the next release", file=sys.stderr
            )
            name = new
        _refuse_replaced(kind, name, f"{path}: option '{raw_name}'")
        if name not in options:
            near = did_you_mean(name.replace("_", "-"), [option.replace("_", "-") for option in options])
            raise ConfigError(
                f"{path}: unknown option '{raw_name}'{near or '; there are: ' + ', '.join(options)}"
            )
        if name in mappings and isinstance(value, dict):
            value = _as_pairs(value)
        values[name] = _converted(value, options[name], f"{path}: option '{raw_name}'")
    return values


def _as_pairs(mapping: Mapping[str, Any]) -> str:
    """``NAME=VALUE,...`` of a mapping; a list is several pairs, and what holds a comma is quoted."""
    given = {name: value if isinstance(value, list) else [value] for name, value in mapping.items()}
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(
        f"{name}={value}" for name, values in given.items() for value in values
    )
    return text.getvalue()


def _refuse_doubles(node: Any, path: Path, renamed: Mapping[str, str]) -> None:
    """Refuse names that stand twice: the last would count, and nobody knows which was meant."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item, path, {})
    if isinstance(node, yaml.MappingNode):
        written = [str(name.value).replace("-", "_") for name, _ in node.value]
        names = [renamed.get(name, name) for name in written]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{path}: option '{name}' stands there {names.count(name)} times")
        for _, value in node.value:
            _refuse_doubles(value, path, {})


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Values of a file as the flags that mean the same.

    Example:
        >>> as_flags({"max_steps": 3, "lora": False, "data": ["a", "b"]})
        ['--max-steps', '3', '--no-lora', '--data', 'a', 'b']
    """
    flags: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            flags += [f"--{option}", *map(str, value)]
        else:
            flags += [f"--{option}", str(value)]
    return flags


def read_config(kind: type[Config], path: Path) -> Config:
    """The dataclass ``kind`` from a YAML file that gives all its required fields.

    Raises:
        ConfigError: naming the file and the option that is unknown, missing or of the wrong type.

    Example:
        >>> from dataclasses import make_dataclass
        >>> _ = Path("run.yaml").write_text("seed: 3")
        >>> read_config(make_dataclass("Run", [("seed", int)]), Path("run.yaml"))
        Run(seed=3)
    """
    values = read_values(kind, path)
    names = {option_of(item.name): item for item in fields(kind)}  # type: ignore[arg-type]
    missing = [
        name
        for name, item in names.items()
        if item.default is MISSING and item.default_factory is MISSING and name not in values
    ]
    if missing:
        raise ConfigError(f"{path}: missing options: {', '.join(missing)}")
    return kind(**{names[name].name: value for name, value in values.items()})


def _converted(value: Any, hint: Any, place: str) -> Any:
    if isinstance(value, int) and value.bit_length() > 4_096:
        raise ConfigError(f"{place}: is a number beyond all measure")
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        inner = next(choice for choice in get_args(hint) if choice is not type(None))
        return _converted(value, inner, place)  # of str and Path the first: who reads it knows which it is
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{place}: {value!r} is not one of {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise ConfigError(f"{place}: must be a list, got {value!r}")
        return [_converted(item, get_args(hint)[0], place) for item in value]
    if hint is Path and isinstance(value, str):
        if not value:
            raise ConfigError(f"{place}: is empty: leave it out, or name one")
        return at_home(value)
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-3 (no dot) as a string
        except (ValueError, OverflowError):
            pass
    if type(value) is hint:
        return value
    raise ConfigError(f"{place}: must be {getattr(hint, '__name__', hint)}, got {value!r}")

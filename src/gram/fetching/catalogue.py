"""Which models can be fetched, from where, and what their files have to be: ``catalogue.json`` as values.

Knows names, versions and digests; fetches nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gram.errors import ConfigError

_FILE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class Wheel:
    """A package of a registry whose wheel holds a model as a GGUF file.

    Attributes:
        package, version: as pip names them.
        megabytes: about the size of the wheel.
        sha256: of the wheel.
        file: path of the GGUF file in the wheel.
        file_sha256: of that file.
    """

    package: str
    version: str
    megabytes: int
    sha256: str
    file: str
    file_sha256: str


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub, at one commit."""

    name: str
    revision: str


@dataclass(frozen=True)
class Converted:
    """What the conversion of the GGUF file gives.

    Attributes:
        sha256: of ``model.safetensors``.
        versions: of the libraries with which it was made, by name.
    """

    sha256: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """A model that can be fetched.

    Attributes:
        name: how it is called wherever a model is named.
        title: how its authors call it.
        registry: where it comes from, unless the Hub is asked for.
        converted: what becomes of that.
        hub: the same model as its authors published it.
        licence: an SPDX identifier.
        attribution: who made it.
    """

    name: str
    title: str
    registry: Wheel
    converted: Converted
    hub: HubModel
    licence: str
    attribution: str


def fetchable() -> dict[str, Entry]:
    """All models that can be fetched, by name.

    Example:
        >>> fetchable()["smollm2-135m"].licence
        'Apache-2.0'
    """
    return _read(_FILE)


def find_entry(name: str) -> Entry:
    """The model called ``name``.

    Raises:
        ConfigError: there is none.

    Example:
        >>> find_entry("smollm2")
        Traceback (most recent call last):
        gram.errors.ConfigError: no model 'smollm2' can be fetched; there are: smollm2-135m
    """
    entries = fetchable()
    if name not in entries:
        raise ConfigError(f"no model '{name}' can be fetched; there are: {', '.join(entries)}")
    return entries[name]


@cache
def _read(path: Path) -> dict[str, Entry]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Entry(
            name=name,
            title=about["title"],
            registry=Wheel(**about["registry"]),
            converted=Converted(**about["converted"]),
            hub=HubModel(**about["hub"]),
            licence=about["licence"],
            attribution=about["attribution"],
        )
        for name, about in content.items()
    }

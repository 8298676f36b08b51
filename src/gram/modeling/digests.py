"""Digests of a model's files, so that a copy of a model in another folder counts as the same model."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from gram.errors import CheckpointError
from gram.modeling.shipped import model_folder

_MIB = 2**20
_WHOLE = 64 * _MIB  # files up to this size are read whole: a tenth of a second
_STEP, _SAMPLE = 16 * _MIB, _MIB // 16  # of larger ones 64 KiB in every 16 MiB


def content_of(name: str) -> str | dict[str, str]:
    """A digest of each file of a local file or folder; any other name (Hub, built-in template) as it is.

    Raises:
        CheckpointError: a file cannot be read.

    Example:
        >>> _ = Path("one.txt").write_text("same"), Path("two.txt").write_text("same")
        >>> list(content_of("one.txt").values()) == list(content_of("two.txt").values())
        True
        >>> content_of("owner/on-the-hub")
        'owner/on-the-hub'
    """
    place = model_folder(name) or Path(name)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    return {path.name: _digest(path) for path in files if path.is_file()} or name


def _digest(path: Path) -> str:
    """Digest of a file's size and content; large files are sampled, as reading many GB takes minutes."""
    try:
        size = path.stat().st_size
        digest = sha256(str(size).encode())
        with path.open("rb") as file:
            for start, length in [(0, size)] if size <= _WHOLE else _samples(size):
                file.seek(start)
                digest.update(file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _samples(size: int) -> list[tuple[int, int]]:
    """(start, length), in bytes, of the parts that tell two trainings of one model apart.

    The first MiB mostly holds names and shapes, which are equal. But training changes nearly every number, so
    64 KiB out of every 16 MiB show it. A last layer that was trained alone lies at an end of the file, and
    both ends are read.
    """
    return [(0, _MIB), *((start, _SAMPLE) for start in range(_STEP, size, _STEP)), (size - _MIB, _MIB)]

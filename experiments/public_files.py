"""The public files that the larger experiments read, and whether those on this machine are the same.

Command: python -m experiments.public_files [FOLDER]

They do not come with the repository: some are large, and not all licences allow to pass them on in this
form. ``public_files.json`` says for each where the original is (repository, commit, path) and under which
licence, and has the sha256 of the file that our numbers are from. A row of ``pref/`` has ``prompt``,
``chosen``, ``rejected``, ``source``, ``subset``, ``group`` (the question behind it) and ``split``; of
``unlabeled/`` and ``bon/`` ``prompt``, ``responses``, ``group`` and ``split``, in ``bon/`` with ``scores``;
of ``text/`` ``text``. The scripts that cut the originals into such rows are not here. The folder stands
beside the repository, as ``../shared/data``, for all experiments. Knows files and sums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path("../shared/data")
LIST = Path(__file__).with_suffix(".json")


def listed() -> list[dict[str, Any]]:
    """``file``, ``repository``, ``commit``, ``licence`` and ``sha256`` of each, of some ``path`` too."""
    return json.loads(LIST.read_text(encoding="utf-8"))


def faults(folder: Path) -> list[str]:
    """What is missing below ``folder``, or is another file; one line each."""
    found = []
    for entry in listed():
        name, path = entry["file"], folder / entry["file"]
        origin = f"{entry['repository']} at {entry['commit']}"
        if not path.is_file():
            found.append(f"{name}: not there; made from {origin}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            found.append(f"{name}: another file than that of our numbers, which was made from {origin}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Are the public files of the experiments here, and the same?"
    )
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    wrong = faults(parser.parse_args().folder)
    print("\n".join(wrong) or f"all {len(listed())} files are those of our numbers")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

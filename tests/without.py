"""Python processes in which some libraries cannot be imported, as if they were not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from gram.extras import EXTRA_OF

_BLOCK = """
import sys
from importlib.machinery import PathFinder

class Others(PathFinder):  # finds what is not left out; find_spec and import see the same
    left_out = sys.argv.pop(1).split(",")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.left_out else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Others
"""


def python_without(
    libraries: Iterable[str], program: str, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run ``program`` with ``arguments`` in ``sys.argv[1:]``."""
    command = [sys.executable, "-c", _BLOCK + program, ",".join(libraries), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def gram_without(libraries: Iterable[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return python_without(libraries, "from gram.__main__ import entry; sys.exit(entry())", *arguments)


def gram_alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line of the core, without any extra."""
    return gram_without(EXTRA_OF, *arguments)

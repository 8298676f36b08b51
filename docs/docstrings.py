"""Lets the site show ``Example:`` of our docstrings as code: griffe knows that section as ``Examples:``.

An extension of griffe, which reads the docstrings for mkdocstrings; named in mkdocs.yml.
"""

from __future__ import annotations

import re
from typing import Any

import griffe  # pyright: ignore[reportMissingImports]  # of the extra docs

_SECTION = re.compile(r"^( *)Example:$", re.MULTILINE)


class ExampleSections(griffe.Extension):
    """Renames the section in every docstring that is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub(r"\1Examples:", obj.docstring.value)

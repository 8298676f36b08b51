"""The marked parts of a page that a script writes: ``<!-- name -->`` ... ``<!-- end name -->``."""

from __future__ import annotations

import re


def filled(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the marks of ``name`` replaced.

    Raises:
        ValueError: no such marks.
    """
    marks = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no marks {marks[0]} ... {marks[1]}")
    return pattern.sub(lambda _: f"{marks[0]}\n\n{content}\n\n{marks[1]}", text)

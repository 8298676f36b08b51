"""Runs the examples that are pages, in full, and puts their pictures and what they print into the docs.

    python docs/examples.py                 # all of them: some minutes on two cores
    python docs/examples.py adapt grpo      # these

Run it after gram-135m has changed. No number stands in the words of the pages: nothing else needs a change.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RUNS = DOCS.parent / "runs" / "examples"
SCRIPTS = {"adapt": "adapt_with_100_labels", "best-of-n": "best_of_n", "grpo": "trl_grpo_served"}
_LEFT_OUT = ("output", "rewards")  # a folder of this machine; a long list that the picture shows
_SHOWN = re.compile(r"(?<=<!-- shown -->\n```json\n).*?(?=```)", re.DOTALL)


def page(name: str) -> Path:
    """The page of an example."""
    return DOCS / f"example-{name}.md"


def filled(text: str, said: Mapping[str, Any]) -> str:
    """The text of a page with what an example printed, a line for each field."""
    lines = [f'"{key}": {json.dumps(value)}' for key, value in said.items() if key not in _LEFT_OUT]
    shown = "{" + ",\n ".join(lines) + "}\n"
    return _SHOWN.sub(lambda _: shown, text)


def shown(name: str) -> dict[str, Any]:
    """What the page of an example shows."""
    [found] = _SHOWN.findall(page(name).read_text(encoding="utf-8"))
    return json.loads(found)


def refresh(name: str) -> None:
    """Run an example, and update its page and its picture; what it makes stays in runs/examples."""
    output = RUNS / name
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, str(DOCS.parent / "examples" / f"{SCRIPTS[name]}.py"), "--output", str(output)]
    if name != "adapt":  # these go on with what it made
        if not (RUNS / "adapt").exists():
            refresh("adapt")
        adapted = str(RUNS / "adapt" / "adapted")
        command += ["--model", *(["gram-135m"] if name == "best-of-n" else []), adapted]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    shutil.copyfile(output / "picture.png", DOCS / "images" / f"example-{name}.png")
    text = page(name).read_text(encoding="utf-8")
    page(name).write_text(filled(text, json.loads(said.splitlines()[-1])), encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or SCRIPTS:
        refresh(name)

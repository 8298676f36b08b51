"""The tutorial (docs/start.md) is run as it stands there, and what it shows is what comes out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import gram
from served import Here, serving

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- (run(?:: \w+)?|shown) -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


def holds(shown: Any, real: Any, place: str = "") -> None:
    """What is shown is part of what came out; numbers to 0.05, as processors round differently."""
    match shown:
        case dict():
            for key, value in shown.items():
                holds(value, real[key], f"{place}.{key}")
        case list():
            for k, value in enumerate(shown):
                holds(value, real[k], f"{place}[{k}]")
        case bool() | str():
            assert real == shown, place
        case _:
            assert real == pytest.approx(shown, abs=0.05), place


def test_what_is_shown_is_compared() -> None:
    holds({"a": [{"b": 0.5}]}, {"a": [{"b": 0.51, "c": 1}]})
    with pytest.raises(AssertionError):
        holds({"a": [{"b": 0.5}]}, {"a": [{"b": 0.56}]})


@pytest.mark.slow
@pytest.mark.usefixtures("base_of_gram_135m")
def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its commands in one folder and in their order; the ``examples`` of a clone lie there."""
    kinds = [kind for kind, _ in BLOCKS]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "run": 5,
        "run: python": 1,
        "run: curl": 1,
        "shown": 6,
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    said = ""
    for kind, text in BLOCKS:
        match kind:
            case "run":
                said = by_bash(f'gram() {{ "{sys.executable}" -m gram "$@"; }}\n{text}')
            case "run: python":
                done = subprocess.run(
                    [sys.executable, "-c", text], capture_output=True, text=True, check=True
                )
                said = done.stdout
            case "run: curl":
                if shutil.which("curl") is None:
                    return
                with serving(Here(gram.load("runs/desk"), "judge"), names=("desk",)) as server:
                    said = by_bash(text.replace(ADDRESS, server.url))
            case _ if text.startswith("{"):
                holds(json.loads(text), json.loads(said.splitlines()[-1]))
            case _:
                assert said == text


def by_bash(script: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

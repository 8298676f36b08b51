"""OpenRLHF's own client and loader against our reward; needs an environment with OpenRLHF (CONTRIBUTING.md).

GRAM_OPENRLHF_PYTHON names its interpreter; without it these tests are skipped. What runs there is
``tests/openrlhf_rollout.py``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import gram

PYTHON = os.environ.get("GRAM_OPENRLHF_PYTHON", "")
ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    {"prompt": "what is the bread ?", "answer": " the bread is old .", "label": "music"},
    {"prompt": "what is the bread ?", "answer": " music", "label": "the bread is old ."},
    {"prompt": "why ?", "answer": "", "label": "the silver is green ."},
]
FAILING = """
from gram.errors import ScoringError
from gram.rl import ReferenceReward
from gram.rl.openrlhf import OpenRlhfReward
from gram.types import Verdicts
import numpy as np


class Judge:
    def compare(self, pairs):
        if any("music" in pair.a for pair in pairs):
            raise ScoringError("no music")
        return Verdicts(np.full((len(pairs), 2), 2.0), np.ones((len(pairs), 2)))


reward_func = OpenRlhfReward(ReferenceReward(Judge()))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="GRAM_OPENRLHF_PYTHON names no interpreter with OpenRLHF"),
]


def roll_out(endpoint: str, judge_folder: Path) -> dict[str, Any]:
    """What OpenRLHF has after the rollouts of ROWS, with its reward from ``endpoint``."""
    done = subprocess.run(
        [PYTHON, str(ROOT / "tests" / "openrlhf_rollout.py"), endpoint, str(judge_folder)],
        input=json.dumps(ROWS),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "GRAM_MODEL": str(judge_folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def served(judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of ``examples/openrlhf_server.py``."""
    monkeypatch.setenv("GRAM_MODEL", str(judge_folder))
    spec = importlib.util.spec_from_file_location("server", ROOT / "examples" / "openrlhf_server.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with ThreadingHTTPServer(("localhost", 0), module.Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/get_reward"
        server.shutdown()


def check(got: dict[str, Any], judge_folder: Path) -> None:
    """Rewards are log-odds of beating the label, clipped to 5; scores the probabilities."""
    verdicts = gram.load(judge_folder).compare(
        [gram.Pair(row["prompt"], a=row["answer"], b=row["label"]) for row in ROWS]
    )
    expected = verdicts.log_odds.mean(axis=1)
    assert len({round(float(value), 3) for value in expected}) == len(ROWS)
    assert got["rewards"] == pytest.approx(expected.clip(-5, 5), abs=1e-4)
    assert got["scores"] == pytest.approx(verdicts.p_a, abs=1e-5)
    assert got["logs"]["gram_failed"] == [0, 0, 0]
    assert got["logs"]["gram_position_gap"] == pytest.approx(verdicts.position_gap, abs=1e-5)
    print(f"OpenRLHF {got['version']}")


def test_its_client_posts_to_get_reward(served: str, judge_folder: Path) -> None:
    check(roll_out(served, judge_folder), judge_folder)


def test_its_client_posts_to_gram_serve(judge_folder: Path) -> None:
    """Not clipped there; log-odds of this judge are within the clip of the example."""
    from served import Here, serving

    with serving(Here(gram.load(judge_folder))) as server:
        check(roll_out(f"{server.url}/get_reward", judge_folder), judge_folder)


def test_its_loader_takes_the_reward_file(judge_folder: Path) -> None:
    check(roll_out(str(ROOT / "examples" / "openrlhf_reward.py"), judge_folder), judge_folder)


def test_a_failed_answer_does_not_end_the_run(judge_folder: Path, tmp_path: Path) -> None:
    """The second answer fails: it is neutral (0, 0.5) and counted, and the batch can be put together."""
    file = tmp_path / "reward.py"
    file.write_text(FAILING)
    got = roll_out(str(file), judge_folder)
    assert got["rewards"] == [2, 0, 2]
    assert got["scores"] == pytest.approx([0.880797, 0.5, 0.880797], abs=1e-6)
    assert got["logs"] == {"gram_failed": [0, 1, 0], "gram_position_gap": [0, 0, 0]}

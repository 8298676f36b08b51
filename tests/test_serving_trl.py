"""TRL's GRPO against ``gram serve``, by the example: another process scores what the policy writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import gram
from test_examples_run import as_command
from test_serving_command import command

STEPS = 3  # of the quick mode


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


@pytest.mark.slow
def test_grpo_trains_against_a_served_model(
    judge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy and prompts of one's own, three steps of 8 answers, one request each: the policy moves, and
    its rewards are those of the same run with the judge loaded here.
    """
    prompts = tmp_path / "prompts.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"what is the {word} ?"}],
            "reference": f"the {word} is old .",
        }
        for word in ("bread", "music", "river", "silver")
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def train(url: str, output: str) -> dict[str, Any]:
        own = ["--policy", judge_folder, "--prompts", prompts, "--output", tmp_path / output]
        return as_command(monkeypatch, capsys, "trl_grpo_served", "--quick", "--url", url, *own)

    with command("--model", judge_folder) as served:
        got = train(served.url, "out")
        counts = served.stop()
    monkeypatch.setattr(gram, "RemoteModel", lambda url, token: gram.load(judge_folder))
    here = train("http://nobody", "here")
    assert got["rewards"] == pytest.approx(here["rewards"], abs=2e-3)  # rounded to 3 digits
    assert got["failures"] == here["failures"] == 0 and got["steps"] == STEPS
    assert len(set(got["rewards"])) == STEPS  # not one number for all
    assert counts["requests"] == STEPS + 1 and counts["failed_units"] == 0  # with that for its name
    assert "gold_after" not in got  # nobody knows the right answers to these
    before, after = weights(judge_folder), weights(tmp_path / "out" / "policy")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.isfinite(value).all() for value in after.values())

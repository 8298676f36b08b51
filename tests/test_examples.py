"""The examples run: TRL for real, the files for OpenRLHF and verl loaded and called as these do it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gram
from gram.modeling.writer import Writer
from gram.rl import GroupReward, LikelihoodReward, ReferenceReward
from gram.rl.trl import AsyncTrlReward, TrlReward

ROOT = Path(__file__).resolve().parents[1]

ON_CPU: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
}


def load_file(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested() -> None:
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.py")) == [
        "adapt_with_100_labels",
        "best_of_n",
        "openrlhf_reward",
        "openrlhf_server",
        "published_template",
        "trl_grpo",
        "trl_grpo_served",
        "verl_reward",
    ]


def expected_log_odds(judge_folder: Path) -> float:
    verdicts = gram.load(judge_folder).compare([gram.Pair("why ?", a="music", b="the bread is old .")])
    return float(verdicts.log_odds.mean())


def test_openrlhf(judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAM_MODEL", str(judge_folder))
    reward_func = load_file("openrlhf_reward").reward_func
    got = reward_func(["why ?music</s>"], ["why ?"], ["the bread is old ."])
    assert got["rewards"].tolist() == pytest.approx([expected_log_odds(judge_folder)], abs=1e-5)


def test_openrlhf_over_http(judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample a request, as OpenRLHF asks; a request that is no good gets an error status."""
    monkeypatch.setenv("GRAM_MODEL", str(judge_folder))
    handler = load_file("openrlhf_server").Handler
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(**request: Any) -> Any:
            address = f"http://localhost:{server.server_port}/get_reward"
            with urllib.request.urlopen(address, json.dumps(request).encode()) as response:
                return json.load(response)

        got = ask(query=["why ?music</s>"], prompts=["why ?"], labels=["the bread is old ."])
        assert got["rewards"] == pytest.approx([expected_log_odds(judge_folder)], abs=1e-5)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(query=["why ?music</s>"])
        server.shutdown()


def test_verl(judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAM_MODEL", str(judge_folder))
    compute_score = load_file("verl_reward").compute_score
    assert inspect.iscoroutinefunction(compute_score)
    got = asyncio.run(
        compute_score(
            data_source="any",
            solution_str="music",
            ground_truth="the bread is old .",
            extra_info={"prompt": "why ?"},
        )
    )
    assert got["score"] == pytest.approx(expected_log_odds(judge_folder), abs=1e-5)


def rewards(judge_folder: Path, scalar_folder: Path) -> list[TrlReward]:
    judge, scorer = gram.load(judge_folder), gram.load(scalar_folder)
    assert isinstance(scorer, gram.ScalarModel)
    return [
        TrlReward(ReferenceReward(judge, answer=lambda prompts: ["music"] * len(prompts)), name="against"),
        AsyncTrlReward(GroupReward(judge), name="inside"),
        TrlReward(LikelihoodReward(scorer), name="alone"),
    ]


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("conversational", [True, False])
def test_trl_trains_with_our_rewards(
    kind: str, conversational: bool, judge_folder: Path, scalar_folder: Path, tmp_path: Path
) -> None:
    """Two steps of the real trainer: sync and async rewards, both kinds of prompts, our metrics logged."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    config: Any = GRPOConfig if kind == "grpo" else RLOOConfig
    trainer_class: Any = GRPOTrainer if kind == "grpo" else RLOOTrainer
    texts = ["what is the bread ?", "what is the music ?"] * 2
    prompts = [[{"role": "user", "content": text}] if conversational else text for text in texts]
    trainer = trainer_class(
        model=str(judge_folder),
        reward_funcs=rewards(judge_folder, scalar_folder),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=config(
            output_dir=str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=6,
            **ON_CPU,
        ),
    )
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "against/mean" in entry)
    assert log["against/mean"] == pytest.approx(log["rewards/against/mean"], abs=1e-5)
    assert 0 <= log["inside/mean"] <= 1 and abs(log["inside/position_gap"]) <= 1
    assert log["alone/spread"] >= 0 and log["against/failures"] == 0


@pytest.mark.parametrize("conversational", [True, False])
def test_online_dpo_trains_with_our_rewards(
    conversational: bool,
    judge_folder: Path,
    scalar_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The experimental trainer, which takes sync functions only and logs nothing for them."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    texts = ["what is the bread ?", "what is the music ?"] * 2
    prompts = [[{"role": "user", "content": text}] if conversational else text for text in texts]
    against, _, alone = rewards(judge_folder, scalar_folder)
    trainer = OnlineDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(judge_folder),
        ref_model=AutoModelForCausalLM.from_pretrained(judge_folder),
        reward_funcs=[against, alone],
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(judge_folder),
        args=OnlineDPOConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=1,
            per_device_train_batch_size=2,
            max_new_tokens=6,
            **ON_CPU,
        ),
    )
    trainer.train()
    assert trainer.state.global_step == 1 and against.reward.failures.count == 0


def test_a_writer_is_greedy_or_sampled_and_repeats_itself(judge_folder: Path) -> None:
    prompts = [gram.types.as_chat(text) for text in ("what is the bread ?", "and ?", "what is the music ?")]
    for temperature in (0.0, 1.0):
        write = Writer.from_pretrained(str(judge_folder), max_new_tokens=8, temperature=temperature)
        together = write(prompts)
        assert together == write(prompts) and len(together) == 3
    greedy = Writer.from_pretrained(str(judge_folder), max_new_tokens=8)
    alone = Writer.from_pretrained(str(judge_folder), max_new_tokens=8, batch_size=1)
    assert greedy(prompts) == alone(prompts)


@pytest.mark.slow
def test_the_trl_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own ``main``, cut down to a few steps: too few to learn, enough to go through every line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    example = importlib.import_module("trl_grpo")
    size = example.Size(policy_steps=10, judge_steps=4, grpo_steps=2, tests=10)
    got = example.main(0, size)
    assert {"seed", "gold_before", "gold_after", "change", "change_95", "rewards"} == set(got)
    assert got["change_95"][0] <= got["change"] <= got["change_95"][1]
    assert list(tmp_path.iterdir()) == []

"""GRPO with a GRAM judge as the reward: TRL trains a small policy, and its gold reward rises.

In the made-up world of docs/world.md, so that nothing is downloaded and the truth is known. A policy that
writes strong and weak answers alike, and a judge taught by labels alone, are trained first; TRL then trains
the policy against the judge, which compares each answer with the one the start policy likes best.

    python examples/trl_grpo.py [--seed 0]

Prints one JSON line: the gold reward on fresh prompts before and after, and the change with its 95% interval
over prompts. Seeds 0, 1 and 2 gave +0.152, +0.145 and +0.105. Needs pip install 'gram-rm[rl]'; about two
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from gram.demo.lab import Lab
from gram.demo.recipe import FULL
from gram.demo.world import World
from gram.modeling.quiet import quiet_libraries
from gram.modeling.writer import Writer
from gram.rl import ReferenceReward
from gram.rl.trl import TrlReward

LONGEST = 28  # tokens of an answer


@dataclass(frozen=True)
class Size:
    """How much of everything: steps of the policy's pre-training, of the judge's, of GRPO; test prompts."""

    policy_steps: int = 300
    judge_steps: int = 300
    grpo_steps: int = 40
    tests: int = 200


FULL_SIZE = Size()


def main(seed: int, size: Size = FULL_SIZE) -> dict[str, Any]:
    """Trains policy and judge, runs GRPO, returns what is printed."""
    world = World(seed)
    lab = Lab(world, replace(FULL, finetuning=replace(FULL.finetuning, steps=size.judge_steps)), seed)
    judge = lab.judge(lab.blank, labels=3000)
    start = lab.policy(replace(FULL.pretraining, steps=size.policy_steps))
    contests = world.contests(8 * size.grpo_steps, world.seen_families, candidates=1, split="train")
    prompts = [{"prompt": [{"role": "user", "content": one.prompt[0].content}]} for one in contests]
    with tempfile.TemporaryDirectory() as folder:
        start.model.save_pretrained(folder)
        start.tokenizer.save_pretrained(folder)
        trainer = GRPOTrainer(
            model=folder,
            reward_funcs=TrlReward(ReferenceReward(judge, answer=Writer(start.model, start.tokenizer))),
            args=GRPOConfig(
                output_dir=f"{folder}/out",
                max_steps=size.grpo_steps,
                per_device_train_batch_size=64,
                num_generations=8,
                max_completion_length=LONGEST,
                learning_rate=1e-4,
                beta=0.05,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                save_strategy="no",
                logging_steps=10,
                disable_tqdm=True,
                seed=seed,
            ),
            train_dataset=Dataset.from_list(prompts),
        )
        trainer.train()
    tests = [one.prompt for one in world.contests(size.tests, world.seen_families, candidates=1)]

    def gold(model: Any) -> np.ndarray:
        write = Writer(model, start.tokenizer, max_new_tokens=LONGEST, temperature=1.0)
        return np.array([world.gold(*row) for row in zip(tests, write(tests), strict=True)])

    before, after = gold(start.model), gold(trainer.model)
    change = after - before
    error = 1.96 * float(change.std(ddof=1)) / len(change) ** 0.5
    return {
        "seed": seed,
        "gold_before": round(float(before.mean()), 3),
        "gold_after": round(float(after.mean()), 3),
        "change": round(float(change.mean()), 3),
        "change_95": [round(float(change.mean()) - error, 3), round(float(change.mean()) + error, 3)],
        "rewards": [round(entry["reward"], 2) for entry in trainer.state.log_history if "reward" in entry],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    quiet_libraries()
    print(json.dumps(main(parser.parse_args().seed)))

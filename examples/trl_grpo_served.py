"""GRPO with a model behind ``gram serve`` as the reward: TRL trains a policy, another process scores it.

    gram serve --model runs/judge
    python examples/trl_grpo_served.py --policy runs/policy --prompts prompts.jsonl --output runs/grpo

Rows of the prompts have ``prompt``, a string or messages, and ``reference``, an answer that is to be beaten.
The reward is the log-odds of that. Nothing of the reward model is loaded here, so that all memory is the
policy's; several runs may ask one server. Prints one JSON line: the mean reward of each step, and the
answers that got none. Needs pip install 'gram-rm[rl]', and [serve] where the server runs.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import torch
from datasets import load_dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

import gram
from gram.modeling.quiet import quiet_libraries
from gram.rl import ReferenceReward
from gram.rl.trl import TrlReward


def main(policy: str, prompts: str, url: str, steps: int, output: str, **settings: Any) -> dict[str, Any]:
    """Trains the policy and saves it to ``output``; returns what is printed.

    Args:
        settings: of ``GRPOConfig``, more or others than those here.
    """
    reward = ReferenceReward(gram.RemoteModel(url, token=os.environ.get("GRAM_TOKEN")))
    gpu = torch.cuda.is_available()
    defaults: dict[str, Any] = {
        "use_cpu": not gpu,
        "bf16": gpu,
        "per_device_train_batch_size": 16,
        "num_generations": 8,
        "max_completion_length": 256,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=TrlReward(reward),
        args=GRPOConfig(output_dir=output, max_steps=steps, **(defaults | settings)),
        train_dataset=load_dataset("json", data_files=prompts, split="train"),
    )
    trainer.train()
    trainer.save_model()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {
        "steps": len(log),
        "rewards": [round(entry["reward"], 3) for entry in log],
        "failures": reward.failures.count,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", required=True, help="the model to train: a folder or a Hub name")
    parser.add_argument("--prompts", required=True, help="JSON Lines file")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of gram serve; GRAM_TOKEN: its token")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", required=True, help="folder for the trained policy")
    quiet_libraries()
    print(json.dumps(main(**vars(parser.parse_args()))))

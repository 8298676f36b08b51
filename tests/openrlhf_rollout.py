"""Rollouts by OpenRLHF itself, run by an interpreter that has it: the engine is a stub, the rest is theirs.

    python openrlhf_rollout.py ENDPOINT TOKENIZER < rows.json

``SingleTurnAgentExecutor`` loads the reward file, or posts to the address; ``SamplesGenerator`` makes
experiences of what it hands back, and ``Experience`` joins, splits and batches them, as a training step does.
ray and vllm are not needed for these and are replaced by empty modules where they are missing. Rows have
``prompt``, ``answer`` and ``label``. Prints a JSON object: version, and per row reward, score and logs.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from transformers import AutoTokenizer


class Engine:
    """Writes the answer it was given, where vLLM would write one."""

    def __init__(self, tokenizer: Any, answer: str) -> None:
        self._ids = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]

    async def generate(self, prompt_token_ids: list[int], params: Any, multi_modal_data: Any = None) -> Any:
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=self._ids, finish_reason="stop", logprobs=None)]
        )


def main(endpoint: str, folder: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Rolls out all rows at once, as OpenRLHF does with a batch of prompts."""
    agent = importlib.import_module("openrlhf.utils.agent")
    experience = importlib.import_module("openrlhf.trainer.ppo_utils.experience")
    for name in ("ray", "vllm"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            sys.modules[name] = MagicMock()
    sys.modules["openrlhf.trainer.ray.vllm_engine"] = sys.modules["openrlhf.trainer.ray"] = MagicMock()
    samples = importlib.import_module("openrlhf.trainer.ppo_utils.samples_generator")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    executor = agent.SingleTurnAgentExecutor(endpoint)

    async def rollouts() -> list[dict[str, Any]]:
        params = SimpleNamespace(max_tokens=64, logprobs=None)
        return await asyncio.gather(
            *(
                executor.execute(
                    row["prompt"], row["label"], params, 256, tokenizer, Engine(tokenizer, row["answer"])
                )
                for row in rows
            )
        )

    generator = samples.SamplesGenerator.__new__(samples.SamplesGenerator)
    made = [generator._process_response_into_experience(one) for one in asyncio.run(rollouts())]
    joined = experience.Experience.concat_experiences(made, tokenizer.pad_token_id)
    batch = experience.make_experience_batch(experience.split_experience_batch(joined))
    logs = [name for name in batch.info if name.startswith("gram_")]
    return {
        "version": importlib.metadata.version("openrlhf"),
        "rewards": batch.rewards.flatten().tolist(),
        "scores": batch.scores.flatten().tolist(),
        "logs": {name: [float(value) for value in batch.info[name]] for name in logs},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], json.load(sys.stdin))))

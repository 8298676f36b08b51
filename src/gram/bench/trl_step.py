"""Steps of ``trl.RewardTrainer`` on our pairs, timed from inside. TRL is no dependency: it may be absent."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from gram.bench.measure import Machine
from gram.bench.ours import LEARNING_RATE
from gram.bench.shapes import twin
from gram.types import Pair


def trl_is_there() -> bool:
    """Whether the peer can be run."""
    return find_spec("trl") is not None


class TrlSteps:
    """The body of ``model`` under a scalar head, trained on one batch after the other.

    Settings are those of our own steps: AdamW, clipping, no gradient checkpointing (TRL's default has it),
    no truncation. What is timed is TRL's own step, from its beginning to its end; fetching and padding the
    batch come before and are not.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batches: Sequence[Sequence[Pair]],
        machine: Machine,
        dtype: torch.dtype,
    ) -> None:
        from datasets import Dataset, disable_progress_bars
        from transformers import PrinterCallback, TrainerCallback
        from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found]

        seconds: list[float] = []

        class Stopwatch(TrainerCallback):
            began = 0.0

            def on_step_begin(self, *_: Any, **__: Any) -> None:
                self.began = machine.clock()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                seconds.append(machine.clock() - self.began)

        scorer = twin(model, classifier=True).train()
        self._folder = tempfile.TemporaryDirectory()
        self._seconds = seconds
        disable_progress_bars()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that TRL uses and transformers will drop
            arguments = RewardConfig(
                output_dir=self._folder.name,
                per_device_train_batch_size=len(batches[0]),
                max_steps=len(batches),
                train_sampling_strategy="sequential",
                max_length=None,
                gradient_checkpointing=False,
                bf16=dtype == torch.bfloat16,
                lr_scheduler_type="constant",
                use_cpu=machine.device == "cpu",
                dataloader_pin_memory=machine.device == "cuda",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
        optimizer = torch.optim.AdamW(scorer.parameters(), lr=LEARNING_RATE, fused=True)
        self._trainer = RewardTrainer(
            scorer,
            arguments,
            train_dataset=Dataset.from_list([_row(pair) for batch in batches for pair in batch]),
            processing_class=tokenizer,
            optimizers=(optimizer, None),
        )
        self._trainer.remove_callback(PrinterCallback)
        self._trainer.add_callback(Stopwatch())
        self._batch = len(batches[0])

    @property
    def tokens(self) -> int:
        """Tokens read, padding included: both answers of a batch are padded to the longest."""
        rows: Any = self._trainer.train_dataset
        longest = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
        return sum(
            2 * self._batch * max(longest[start : start + self._batch])
            for start in range(0, len(longest), self._batch)
        )

    def run(self) -> float:
        """Train on all batches once; returns the seconds of the steps themselves."""
        self._seconds.clear()
        self._trainer.train()
        return sum(self._seconds)


def _row(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in pair.prompt],
        "chosen": [{"role": "assistant", "content": pair.a}],
        "rejected": [{"role": "assistant", "content": pair.b}],
    }

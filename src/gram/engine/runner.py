"""The forward passes behind every local model: token rows in, log-probabilities or scores out.

Rows are cut into batches under a token budget; results come back in the caller's order and do not depend
on the batch they were computed in. Knows token rows; knows no prompts and nothing of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gram.asking import EngineName, Layout, dtype_name
from gram.engine.base import Batch, TokenRow
from gram.engine.choose import choose_engine
from gram.engine.choose_fan import choose_fan
from gram.engine.memory import token_budget_for
from gram.engine.neighbours import kind_of_length
from gram.types import FloatArray


class Runner:
    """Runs one Hugging Face model without gradients.

    Args:
        model: on its device, in evaluation mode.
        token_budget: most tokens read in one forward pass; by default chosen for the free memory.
        engine: ``tree`` reads shared prefixes once, ``plain`` reads every prompt by itself.
        bf16: compute in bf16 where weights are fp32, because they are in training; by default as they are.
        layout: ``fan``: rows may be segments, and what was read for them once is kept for later calls.

    Raises:
        CheckpointError: the model cannot be read in that layout.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        token_budget: int | None = None,
        engine: EngineName = "tree",
        bf16: bool | None = None,
        layout: Layout = "sequence",
    ) -> None:
        self._model = model
        self._bf16 = bf16
        if layout == "fan":
            self._engine = choose_fan(model, bf16=bf16, keep=True)
        else:
            self._engine = choose_engine(model, engine, bf16=bf16)
        self._budget = token_budget or token_budget_for(model)
        self._kind = kind_of_length(model)
        self._process = os.getpid()

    @property
    def engine(self) -> str:
        """Name of the engine in use; ``plain`` where the model cannot be served otherwise."""
        return self._engine.name

    @property
    def dtype(self) -> str:
        """Precision of the products: ``fp32``, ``bf16``, or torch's name of another."""
        return "bf16" if self._bf16 else dtype_name(self._model.dtype)

    @property
    def token_budget(self) -> int:
        """Most tokens read in one forward pass; it falls when memory has run out."""
        return self._budget

    def next_logprobs(self, rows: Sequence[TokenRow], tokens: Sequence[int]) -> FloatArray:
        """(n, k) log-probability of each of k ``tokens`` as the next one, out of the whole vocabulary."""

        def read(batch: Batch) -> Tensor:
            return self._engine.next_logprobs(self._model, batch, tokens)

        return self._run(rows, read, np.empty((len(rows), len(tokens))))

    def span_logprobs(self, rows: Sequence[TokenRow]) -> tuple[FloatArray, FloatArray]:
        """Summed log-probability of the scored tokens of each row, (n,), and their number, (n,)."""

        def read(batch: Batch) -> Tensor:
            logprobs, _ = self._engine.token_logprobs(self._model, batch)
            return logprobs.double().sum(dim=1)

        lengths = [len(row.scored) for row in rows]
        return self._run(rows, read, np.empty(len(rows))), np.array(lengths, dtype=np.float64)

    def token_logprobs(self, row: TokenRow) -> FloatArray:
        """(k,) log-probability of each scored token of one row."""

        def read(batch: Batch) -> Tensor:
            logprobs, scored = self._engine.token_logprobs(self._model, batch)
            return logprobs[scored][None]  # (1, k)

        return self._run([row], read, np.empty((1, len(row.scored))))[0]

    def scores(self, rows: Sequence[TokenRow]) -> FloatArray:
        """(n,) scores of a sequence classifier."""

        def read(batch: Batch) -> Tensor:
            return self._engine.scores(self._model, batch)

        return self._run(rows, read, np.empty(len(rows)))

    def _run(self, rows: Sequence[TokenRow], read: Callable[[Batch], Tensor], out: FloatArray) -> FloatArray:
        """Fills ``out`` with what ``read`` gives for each row; halves the budget where memory runs out."""
        if os.getpid() != self._process:  # torch's threads did not come along into a fork, and it would wait
            torch.set_num_threads(1)
            self._process = os.getpid()
        for remainder in self._groups(rows):
            while remainder:
                remainder = self._fill(rows, remainder, read, out)
        return out

    def _fill(
        self, rows: Sequence[TokenRow], indices: list[int], read: Callable[[Batch], Tensor], out: FloatArray
    ) -> list[int]:
        """Reads the rows at ``indices``; returns the indices of those that did not fit into memory."""
        finished_rows: set[int] = set()
        batch: list[int] = []
        try:
            with torch.inference_mode(), self._autocast():
                for places in self._engine.cut([rows[index] for index in indices], self._budget):
                    batch = [indices[place] for place in places]
                    tensors = self._engine.lay_out([rows[index] for index in batch])
                    values = read({name: value.to(self._model.device) for name, value in tensors.items()})
                    out[batch] = values.cpu().numpy()
                    finished_rows.update(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            self._budget = max(1, self._budget // 2)
        return [index for index in indices if index not in finished_rows]

    def _autocast(self) -> torch.autocast:
        low = self._model.dtype == torch.bfloat16
        return torch.autocast(self._model.device.type, torch.bfloat16, enabled=bool(self._bf16) and not low)

    def _groups(self, rows: Sequence[TokenRow]) -> list[list[int]]:
        """Indices of the rows, in groups that may share a batch, see ``neighbours``."""
        groups: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(self._kind(len(row.ids)), []).append(index)
        return [groups[kind] for kind in sorted(groups)]

"""The plain layout: a left-padded batch with explicit positions, through the model's own forward pass.

Left padding puts the last token of every row in the last column, so that the logits a judge or an answer
needs are the last few of each row, and no others are computed. Kept simple as the reference that every
faster layout is tested against.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.heads import core, language_layer


class Plain(Engine):
    """Every row by itself; serves every decoder.

    Batch: ``input_ids``, ``attention_mask``, ``position_ids`` and ``scored``, all (n, T).
    """

    name = "plain"

    def cut(self, rows: Sequence[TokenRow], budget: int) -> Iterator[list[int]]:
        return length_batches([len(row.ids) for row in rows], budget)

    def cut_groups(self, groups: Sequence[Sequence[TokenRow]], budget: int) -> Iterator[list[int]]:
        most = max(map(len, groups), default=1)  # rows of a group
        lengths = [max(len(row.ids) for row in group) for group in groups]
        return length_batches(lengths, budget // most)

    def lay_out(self, rows: Sequence[TokenRow]) -> Batch:
        batch = left_pad([row.ids for row in rows])
        scored = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)  # (n, T)
        width = scored.shape[1]
        for place, row in enumerate(rows):
            scored[place, width - len(row.ids) + torch.from_numpy(row.scored)] = True
        return batch | {"scored": scored}

    def next_logits(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        return last_logits(model, batch, keep=1)[:, -1, list(tokens)].float()

    def next_logprobs(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        return last_logits(model, batch, keep=1)[:, -1].float().log_softmax(dim=-1)[:, list(tokens)]

    def token_logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        keep = max(scored_columns(batch["scored"]), 1)
        return _scored_logprobs(last_logits(model, batch, keep), batch)

    def language_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return -self.token_logprobs(model, batch)[0].sum()

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        return pooled_scores(model, batch)

    def scores_and_logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        output = model(**_inputs(model, batch), use_cache=False, output_hidden_states=True)
        keep = max(scored_columns(batch["scored"]), 1)
        logits = language_layer(model)(output.hidden_states[-1][:, -keep:])  # (n, keep, V)
        return output.logits[:, 0].float(), *_scored_logprobs(logits, batch)


def left_pad(sequences: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """A batch of n sequences as (n, T) ``input_ids``, ``attention_mask`` and ``position_ids``.

    Padding holds token 0: it is masked, and its value never matters.

    Example:
        >>> batch = left_pad([[5, 6, 7], [8]])
        >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist()
        ([[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]])
    """
    width = max(len(sequence) for sequence in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)  # (n, T)
    mask = torch.zeros(len(sequences), width, dtype=torch.long)  # (n, T)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = torch.as_tensor(np.asarray(sequence, dtype=np.int64))
        mask[row, width - len(sequence) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (n, T)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def last_logits(model: nn.Module, batch: dict[str, Tensor], keep: int) -> Tensor:
    """(n, keep, V) logits at the last ``keep`` columns, in the model's own precision."""
    return model(**_inputs(model, batch), logits_to_keep=keep, use_cache=False).logits


def pooled_scores(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """(n,) fp32 scores of a sequence classifier with one output, read at the last token of each row."""
    return model(**_inputs(model, batch), use_cache=False).logits[:, 0].float()


def _scored_logprobs(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """``Engine.token_logprobs`` from the logits (n, keep, V) at the last columns."""
    width = logits.shape[1] - 1  # the last column predicts a token after the row, which is not there
    scored = batch["scored"][:, batch["scored"].shape[1] - width :]  # (n, width)
    targets = batch["input_ids"][:, batch["input_ids"].shape[1] - width :]  # (n, width)
    logprobs = torch.zeros(scored.shape, dtype=torch.float32, device=logits.device)  # (n, width)
    logprobs[scored] = token_logprobs(logits[:, :-1][scored], targets[scored])
    return logprobs, scored


def token_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """(n,) fp32 log-probabilities of ``targets`` (n,) under ``logits`` (n, V).

    Example:
        >>> token_logprobs(torch.zeros(1, 4), torch.tensor([2])).exp().tolist()  # four equal logits
        [0.25]
    """
    return -nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def scored_columns(scored: Tensor) -> int:
    """How many of the last columns must have logits, so that every scored token is predicted.

    The columns run from the one before the first scored token to the last; 0 when nothing is scored.

    Example:
        >>> scored_columns(torch.tensor([[False, False, True, True]]))  # columns 1 to 3
        3
    """
    columns = scored.any(dim=0).nonzero()  # (columns with a scored token, 1)
    return 0 if len(columns) == 0 else int(scored.shape[1] - columns[0].item() + 1)


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, each at most ``budget`` padded tokens.

    A single row may exceed the budget. The longest come first, so that a batch too large for the memory
    fails at once and not after an hour.

    Example:
        >>> list(length_batches([3, 9, 4], budget=9))
        [[1], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batch: list[int] = []
    for index in order:
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _inputs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Any]:
    names = ["input_ids", "attention_mask"]
    if takes_positions(type(core(model))):
        names.append("position_ids")
    return {name: batch[name] for name in names}


@lru_cache(maxsize=64)
def takes_positions(kind: type[nn.Module]) -> bool:
    """Whether a model takes ``position_ids``; those with relative positions (ALiBi) read the mask instead."""
    return "position_ids" in inspect.signature(kind.forward).parameters

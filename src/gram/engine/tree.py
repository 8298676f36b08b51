"""The fast layout: all rows of a batch as one token trie, every shared prefix read once.

One forward pass over the packed trie; the output layer is applied to the hidden states that are needed only.
The numbers are those of ``plain.Plain``, up to fp32 rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gram.engine import trie
from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.heads import (
    core,
    cross_entropy_sum,
    few_logits,
    language_layer,
    log_normaliser,
    output_layer,
    tied,
    token_logprobs,
)
from gram.engine.plan import Plan


class Tree(Engine):
    """Reads shared prefixes once. The model's attention must be ``attention.NAME``: see ``choose_engine``.

    Batch: ``input_ids`` and ``position_ids`` (1, N); ``tree_plan``; ``last`` (n,) the packed place of each
    row's last token; ``read`` (k,) the packed places that predict the scored tokens; ``targets`` (k,)
    these tokens; ``scored`` (n, T) in which row they count.
    """

    name = "tree"

    def cut(self, rows: Sequence[TokenRow], budget: int) -> Iterator[list[int]]:
        return trie.cut([row.ids for row in rows], budget)

    def cut_groups(self, groups: Sequence[Sequence[TokenRow]], budget: int) -> Iterator[list[int]]:
        return trie.cut_groups([[row.ids for row in group] for group in groups], budget)

    def lay_out(self, rows: Sequence[TokenRow]) -> Batch:
        ids = [np.asarray(row.ids, dtype=np.int64) for row in rows]  # n times (length,)
        shared = trie.build(ids)  # N packed tokens in all
        scored = [row.scored for row in rows]  # n times (tokens that count,), k of them in all
        last_places = [shared.place(number, np.array([len(row) - 1])) for number, row in enumerate(ids)]
        predictors = [shared.place(number, positions - 1) for number, positions in enumerate(scored)]
        mask = torch.zeros(len(rows), max(map(len, scored)), dtype=torch.bool)  # (n, T)
        for number, positions in enumerate(scored):
            mask[number, : len(positions)] = True
        packed = np.concatenate([ids[n.row][n.start : n.stop] for n in shared.nodes])  # (N,)
        depths = np.concatenate([np.arange(n.start, n.stop) for n in shared.nodes])  # (N,)
        targets = np.concatenate([row[at] for row, at in zip(ids, scored, strict=True)])  # (k,)
        return {
            "input_ids": torch.from_numpy(packed)[None],  # (1, N)
            "position_ids": torch.from_numpy(depths)[None],  # (1, N)
            "tree_plan": Plan.of(shared),
            "last": torch.from_numpy(np.concatenate(last_places)),  # (n,)
            "read": torch.from_numpy(np.concatenate(predictors)),  # (k,)
            "targets": torch.from_numpy(targets),
            "scored": mask,
        }

    def next_logits(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        layer, hidden = output_layer(model), _hidden(model, batch)[batch["last"]]  # (n, H)
        return few_logits(layer, hidden, tokens, sparse=tied(model))

    def next_logprobs(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        layer, hidden = output_layer(model), _hidden(model, batch)[batch["last"]]  # (n, H)
        logits = few_logits(layer, hidden, tokens)
        return logits - log_normaliser(layer, hidden, tokens, logits)

    def token_logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return _scored_logprobs(output_layer(model), _hidden(model, batch), batch)

    def language_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy_sum(output_layer(model), _hidden(model, batch)[batch["read"]], batch["targets"])

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        return _scores(model, _hidden(model, batch), batch)

    def scores_and_logprobs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        hidden = _hidden(model, batch)
        return _scores(model, hidden, batch), *_scored_logprobs(language_layer(model), hidden, batch)


def _scores(model: nn.Module, hidden: Tensor, batch: Batch) -> Tensor:
    return few_logits(output_layer(model), hidden[batch["last"]], slice(None))[:, 0]


def _scored_logprobs(layer: Any, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    logprobs = token_logprobs(layer, hidden[batch["read"]], batch["targets"])  # (k,)
    scored: Tensor = batch["scored"]  # (n, T), k of them true, row by row as in logprobs
    return torch.zeros(scored.shape, device=logprobs.device).masked_scatter(scored, logprobs), scored


def _hidden(model: nn.Module, batch: Batch) -> Tensor:
    """(N, H) final hidden states of the packed tokens.

    transformers takes a four-dimensional mask as it is. Without one it would build a mask itself, and take
    every jump of the positions for the start of a new sequence. The mask given here hides nothing: the plan
    says what each token sees.
    """
    ids = batch["input_ids"]
    mask = torch.zeros(1, 1, 1, 1, device=ids.device)
    output = core(model).base_model(
        input_ids=ids,
        position_ids=batch["position_ids"],
        attention_mask=mask,
        use_cache=False,
        tree_plan=batch["tree_plan"],
    )
    return output.last_hidden_state[0]

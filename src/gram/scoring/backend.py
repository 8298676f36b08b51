"""The forward passes behind every local model: batches of token ids in, log-probabilities or scores out.

Batches are cut from prompts of similar length under a token budget; results come back in the caller's order
and do not depend on the batch they were computed in. Knows tokens only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gram.rendering import Encoded
from gram.tree.padded import last_logits, left_pad, length_batches, pooled_scores, token_logprobs
from gram.types import FloatArray

DEFAULT_BUDGET = 16_384


class TransformersBackend:
    """Runs one Hugging Face model without gradients.

    Args:
        model: on its device, in evaluation mode.
        token_budget: most padded tokens in one forward pass.
    """

    def __init__(self, model: PreTrainedModel, *, token_budget: int = DEFAULT_BUDGET) -> None:
        self._model = model
        self._budget = token_budget

    def next_logprobs(self, prompts: Sequence[Encoded], tokens: Sequence[int]) -> FloatArray:
        """(n, k) log-probability of each of k ``tokens`` as the next one, out of the whole vocabulary."""
        found = np.empty((len(prompts), len(tokens)))
        for indices, batch in self._batches([prompt.ids for prompt in prompts]):
            logits = last_logits(self._model, batch, keep=1)[:, -1].float()
            chosen = logits.log_softmax(dim=-1)[:, list(tokens)]
            found[indices] = chosen.cpu().numpy()
        return found

    def answer_logprobs(self, answers: Sequence[Encoded]) -> tuple[FloatArray, FloatArray]:
        """Summed log-probability of each answer with its end token, (n,), and its number of tokens, (n,)."""
        spans = [(max(start, 1), stop) for start, stop in (answer.scored("a") for answer in answers)]
        sums = np.empty(len(answers))
        for indices, batch in self._batches([answer.ids for answer in answers]):
            ids = batch["input_ids"]
            tails = [len(answers[index].ids) - spans[index][0] for index in indices]
            keep = min(max(tails) + 1, ids.shape[1])
            logits = last_logits(self._model, batch, keep)[:, :-1]
            targets = ids[:, 1 - keep :] if keep > 1 else ids[:, :0]
            scored = torch.zeros(targets.shape, dtype=torch.bool, device=ids.device)
            for row, index in enumerate(indices):
                start, stop = (place - len(answers[index].ids) + targets.shape[1] for place in spans[index])
                scored[row, start:stop] = True
            logprobs = torch.zeros(targets.shape, dtype=torch.float64, device=ids.device)
            logprobs[scored] = token_logprobs(logits[scored], targets[scored]).double()
            sums[indices] = logprobs.sum(dim=1).cpu().numpy()
        return sums, np.array([stop - start for start, stop in spans], dtype=np.float64)

    def pooled(self, answers: Sequence[Encoded]) -> FloatArray:
        """(n,) scores of a sequence classifier."""
        found = np.empty(len(answers))
        for indices, batch in self._batches([answer.ids for answer in answers]):
            found[indices] = pooled_scores(self._model, batch).cpu().numpy()
        return found

    def _batches(self, sequences: Sequence[list[int]]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        device = self._model.device
        with torch.inference_mode():
            for indices in length_batches([len(sequence) for sequence in sequences], self._budget):
                batch = left_pad([sequences[index] for index in indices])
                yield indices, {name: value.to(device) for name, value in batch.items()}

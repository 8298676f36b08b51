"""Training steps, timed: forward, backward, clipping and AdamW, ours beside how others do it.

The paths, on the same pairs, weights and optimizer settings:
  ours    the objective on the tree engine
  plain   the objective on the plain engine
  full    a left-padded batch, logits of the whole vocabulary at every position (the published way)
  trl     ``trl.RewardTrainer`` with the same body under a scalar head: each answer by itself, one order
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor

from gram.bench.arithmetic import Cost, Work, unique
from gram.bench.measure import Machine, body_matmuls, spread
from gram.bench.shapes import twin
from gram.bench.trl_step import TrlSteps, trl_is_there
from gram.engine.base import Engine, TokenRow
from gram.engine.choose import choose_engine
from gram.engine.plain import Plain, left_pad
from gram.objectives.formulas import smoothed_label_loss
from gram.objectives.language import Language
from gram.objectives.objective import Objective, Sample
from gram.objectives.preference import Judge
from gram.rendering import Renderer
from gram.types import Pair, Preference, ResponsePair

_EPS = 0.1
_FORWARD_AND_BACKWARD = 3  # a product's two gradients cost as much as two more products
_FREE_SHARE = 0.8
_COPIES = 3  # of the logits: themselves, their log-softmax or its like, and their gradient

Loss = Callable[[Sequence[Sample]], Tensor]


class Steps:
    """All training paths through one model, whose weights are fp32.

    Args:
        bf16: products in bf16 by autocast, as in ``gram train --bf16``.
    """

    def __init__(self, model: Any, renderer: Renderer, machine: Machine, *, bf16: bool) -> None:
        self._machine = machine
        self._renderer = renderer
        self._model = model.train()
        self._peer = twin(model).train()
        self._engine = choose_engine(model)
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._work = Work.of(model)
        self._parameters = list(model.parameters())
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-6, fused=True)

    def preference(self, batches: Sequence[Sequence[Pair]], rounds: int) -> dict[str, Any]:
        """Stage 2: both orders of every pair, at half weight each."""

        def objective(engine: Engine) -> Objective[Preference]:
            return Judge(self._renderer, label_smoothing=_EPS, engine=engine)

        examples = [[Preference(pair, 1.0) for pair in batch] for batch in batches]
        labels = list(self._renderer.label_ids)

        def full(samples: Sequence[Sample]) -> Tensor:
            logits = self._peer_logits(samples)[:, -1, labels]
            first = torch.tensor([1.0, 0.0], device=logits.device).repeat(len(samples))
            return smoothed_label_loss(logits, first, _EPS) / len(first)

        return {"task": "stage 2"} | self._measure(objective, examples, full, batches, rounds)

    def language(self, batches: Sequence[Sequence[Pair]], rounds: int) -> dict[str, Any]:
        """Stage 1: both answers of an unlabeled pair, in the judge template."""

        def objective(engine: Engine) -> Objective[Any]:
            return Language(self._renderer, engine=engine)

        examples = [[ResponsePair(pair.prompt, pair.a, pair.b) for pair in batch] for batch in batches]

        def full(samples: Sequence[Sample]) -> Tensor:
            batch = Plain().lay_out([row for sample in samples for row in sample.rows])
            batch = {name: value.to(self._peer.device) for name, value in batch.items()}
            labels = batch["input_ids"].masked_fill(~batch.pop("scored"), -100)
            return self._peer(**batch, labels=labels, use_cache=False).loss

        return {"task": "stage 1"} | self._measure(objective, examples, full, None, rounds)

    def _measure(
        self,
        objective: Callable[[Engine], Objective[Any]],
        examples: Sequence[Sequence[Any]],
        full: Loss,
        for_trl: Sequence[Sequence[Pair]] | None,
        rounds: int,
    ) -> dict[str, Any]:
        ours, plain = objective(self._engine), objective(Plain())
        batches = [ours.encode(batch) for batch in examples]
        rows = [[row for sample in batch for row in sample.rows] for batch in batches]
        losses: dict[str, Loss] = {
            name: partial(self._loss, objective, model)
            for name, objective, model in (("ours", ours, self._model), ("plain", plain, self._peer))
        }
        padded_tokens = [len(batch) * max(len(row.ids) for row in batch) for batch in rows]
        notes = self._obstacles(max(padded_tokens), for_trl is not None)
        if "full" not in notes:
            losses["full"] = full
        apart = self._apart(losses, batches[0])
        steps = {name: self._steps(loss, batches) for name, loss in losses.items()}
        if trl := self._trl(for_trl, notes):
            steps["trl"] = trl.run
        for name in steps.keys() & {"ours", "trl"}:
            steps[name]()  # the two optimizers make their state; all kernels were met above
        tokens = [unique([row.ids for row in batch])[0] for batch in rows]
        typical = sum(tokens) // len(tokens)
        paths = {**steps, "matmul": body_matmuls(self._model, typical, self._dtype)}
        timings = self._machine.in_turn(paths, rounds)
        base = timings["ours"]
        scored_tokens = sum(len(row.scored) for batch in rows for row in batch)
        trl_tokens = {"trl": trl.tokens} if trl else {}
        costs = {"full": Cost(sum(padded_tokens), sum(padded_tokens))}
        costs |= {name: Cost(tokens_read, 0) for name, tokens_read in trl_tokens.items()}
        least = Cost(sum(tokens), scored_tokens)
        ceiling = 2 * self._work.body * typical / timings["matmul"].median
        forward = self._forward_flops(rows, scored_tokens)
        units = sum(len(batch) for batch in batches) if ours.unit == "pair" else scored_tokens
        return {
            "unit": ours.unit,
            "engine": self._engine.name,
            "pairs": len(batches[0]),
            "batches": len(batches),
            "tokens": {
                "rows": sum(len(row.ids) for batch in rows for row in batch),
                "unique": sum(tokens),
                "padded": sum(padded_tokens),
                **trl_tokens,
            },
            "seconds_per_step": {name: timings[name].median / len(batches) for name in steps},
            "per_second": {name: units / timings[name].median for name in steps},
            "ratio": {name: spread(timings[name].seconds, base.seconds) for name in steps if name != "ours"},
            "ideal": {name: self._work.ratio(cost, least) for name, cost in costs.items() if name in steps},
            "ceiling_gflops": ceiling / 1e9,
            "fraction": _FORWARD_AND_BACKWARD * forward / ceiling / base.median,
            "memory_mb": {name: timings[name].memory for name in steps},
            "gradients_mb": sum(p.numel() * p.element_size() for p in self._parameters) / 1e6,
            "gradient_difference": apart,
            "notes": notes,
        }

    def _trl(self, pairs: Sequence[Sequence[Pair]] | None, notes: Mapping[str, str]) -> TrlSteps | None:
        if pairs is None or "trl" in notes:
            return None
        return TrlSteps(self._peer, self._renderer.tokenizer, pairs, self._machine, self._dtype)

    def _forward_flops(self, rows: Sequence[Sequence[TokenRow]], scored_tokens: int) -> int:
        body = sum(self._work.flops([row.ids for row in batch]) for batch in rows)
        return body + 2 * self._work.head * scored_tokens

    def _obstacles(self, padded_tokens: int, with_trl: bool) -> dict[str, str]:
        """Peers that cannot be run here, and why not."""
        notes = {}
        logit_bytes = _COPIES * 4 * padded_tokens * self._peer.config.vocab_size
        if logit_bytes >= self._free():
            notes["full"] = f"not run: its logits would take {logit_bytes / 1e9:.0f} GB"
        if with_trl and not trl_is_there():
            notes["trl"] = "trl not installed"
        return notes

    def _loss(self, objective: Objective[Any], model: Any, samples: Sequence[Sample]) -> Tensor:
        batch = {name: value.to(model.device) for name, value in objective.collate(samples).items()}
        return objective.loss_sum(model, batch).loss / objective.count(batch)

    def _peer_logits(self, samples: Sequence[Sample]) -> Tensor:
        batch = left_pad([row.ids for sample in samples for row in sample.rows])
        batch = {name: value.to(self._peer.device) for name, value in batch.items()}
        return self._peer(**batch, use_cache=False).logits

    def _backward(self, loss: Loss, samples: Sequence[Sample]) -> None:
        low = self._dtype != torch.float32
        with torch.autocast(self._machine.device, self._dtype) if low else nullcontext():
            value = loss(samples)
        value.backward()

    def _steps(self, loss: Loss, batches: Sequence[Sequence[Sample]]) -> Callable[[], Any]:
        """One optimizer step per batch; leaves no gradients behind."""

        def run() -> None:
            for samples in batches:
                self._backward(loss, samples)
                torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
                self._optimizer.step()
                self._optimizer.zero_grad()

        return run

    def _apart(self, losses: dict[str, Loss], samples: Sequence[Sample]) -> dict[str, float]:
        """Per peer, the largest difference of a gradient entry over the largest entry."""
        differences = {}
        self._backward(losses["ours"], samples)
        mine = [parameter.grad for parameter in self._parameters]
        for name, loss in losses.items():
            if name == "ours":
                continue
            self._optimizer.zero_grad()
            self._backward(loss, samples)
            pairs = [(a, p.grad) for a, p in zip(mine, self._parameters, strict=True)]
            largest = max(float(b.abs().max()) for _, b in pairs if b is not None)
            differences[name] = max(
                float((a - b).abs().max()) for a, b in pairs if a is not None and b is not None
            )
            differences[name] /= largest
        self._optimizer.zero_grad()
        return differences

    def _free(self) -> float:
        if self._machine.device == "cuda":
            return _FREE_SHARE * torch.cuda.mem_get_info()[0]
        return _FREE_SHARE * psutil.virtual_memory().available

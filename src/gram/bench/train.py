"""Training steps, timed: forward, backward, clipping and AdamW, ours beside how others do it.

The paths, on the same pairs and the same weights to begin with, with the same optimizer settings:
  ours    the objective on the tree engine, set up as ``gram train`` does (``ours.py``)
  unfused the same over transformers' own layers, in bf16 on a GPU
  plain   the objective on the plain engine
  full    a left-padded batch, logits of the whole vocabulary at every position (the published way)
  hf      with LoRA: a plain Hugging Face loop with PEFT, as a careful user writes it (``lora_step.py``)
  trl     ``trl.RewardTrainer`` with the same body under a scalar head: each answer by itself, one order
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor

from gram.bench.arithmetic import Cost, Work, unique
from gram.bench.learner import Learner, Loss, apart, gradients
from gram.bench.lora_step import lora_learner
from gram.bench.measure import Machine, body_matmuls, spread
from gram.bench.ours import LEARNING_RATE, Training, for_training
from gram.bench.profiling import shares
from gram.bench.shapes import twin
from gram.bench.trl_step import TrlSteps, trl_is_there
from gram.engine.base import Engine
from gram.engine.plain import Plain, left_pad
from gram.objectives.formulas import smoothed_label_loss
from gram.objectives.language import Language
from gram.objectives.objective import Objective, Sample
from gram.objectives.preference import Judge
from gram.rendering import Renderer
from gram.types import Pair, Preference, ResponsePair

_EPS = 0.1
_FREE_SHARE = 0.8
_COPIES = 3  # of the logits: themselves, their log-softmax or its like, and their gradient

Batches = Sequence[Sequence[Sample]]


class Steps:
    """All training paths through one model, whose weights are fp32.

    Args:
        bf16: products in bf16, as in ``gram train --dtype bf16``.
        unfused: time ours over transformers' own layers too.
    """

    def __init__(
        self, model: Any, renderer: Renderer, machine: Machine, *, bf16: bool, unfused: bool = False
    ) -> None:
        self._machine = machine
        self._renderer = renderer
        self._bf16 = bf16
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._work = Work.of(model)
        self._peer = copy.deepcopy(twin(model)).train()  # ours may change its weights' precision
        self._peer_parameters = list(self._peer.parameters())
        self._peer_optimizer = torch.optim.AdamW(self._peer_parameters, lr=LEARNING_RATE, fused=True)
        self._ours = for_training(model, bf16=bf16, lora=False)
        self._unfused = self._without_fusing(lora=False) if unfused else None

    def preference(self, batches: Sequence[Sequence[Pair]], rounds: int) -> dict[str, Any]:
        """Stage 2, all weights: both orders of every pair, at half weight each."""
        labels = list(self._renderer.label_ids)

        def full(samples: Sequence[Sample]) -> Tensor:
            logits = self._peer_logits(samples)[:, -1, labels]
            first = torch.tensor([1.0, 0.0], device=logits.device).repeat(len(samples))
            return smoothed_label_loss(logits, first, _EPS) / len(first)

        ours, plain = self._judge(self._ours.engine), self._judge(Plain())
        samples = [ours.encode([Preference(pair, 1.0) for pair in batch]) for batch in batches]
        notes = {} if trl_is_there() else {"trl": "trl not installed"}
        trl = None
        if not notes:
            trl = TrlSteps(self._peer, self._renderer.tokenizer, batches, self._machine, self._dtype)
        learners = self._whole(ours, plain, full, samples, notes)
        return {"task": "stage 2"} | self._measure(ours, samples, learners, rounds, notes, trl=trl)

    def adapters(self, batches: Sequence[Sequence[Pair]], rounds: int) -> dict[str, Any]:
        """Stage 2 with LoRA: the same pairs, all weights frozen beside the adapters."""
        training = for_training(copy.deepcopy(self._peer), bf16=self._bf16, lora=True)
        ours = self._judge(training.engine)
        samples = [ours.encode([Preference(pair, 1.0) for pair in batch]) for batch in batches]
        peer = lora_learner(
            self._peer,
            training.parameters,
            dtype=self._dtype,
            labels=self._renderer.label_ids,
            smoothing=_EPS,
        )
        learners = {"ours": _learner(ours, training)}
        if self._unfused is not None:
            unfused = self._without_fusing(lora=True)
            with torch.no_grad():
                for parameter, value in zip(unfused.parameters, training.parameters, strict=True):
                    parameter.copy_(value)
            learners["unfused"] = _learner(ours, unfused)
        learners["hf"] = peer
        weights = sum(parameter.numel() for parameter in training.parameters)
        return {"task": "stage 2, LoRA"} | self._measure(
            ours, samples, learners, rounds, {}, adapters=weights
        )

    def language(self, batches: Sequence[Sequence[Pair]], rounds: int) -> dict[str, Any]:
        """Stage 1, all weights: both answers of an unlabeled pair, in the judge template."""

        def full(samples: Sequence[Sample]) -> Tensor:
            batch = Plain().lay_out([row for sample in samples for row in sample.rows])
            batch = {name: value.to(self._peer.device) for name, value in batch.items()}
            labels = batch["input_ids"].masked_fill(~batch.pop("scored"), -100)
            return self._peer(**batch, labels=labels, use_cache=False).loss

        ours, plain = (Language(self._renderer, engine=engine) for engine in (self._ours.engine, Plain()))
        samples = [ours.encode([ResponsePair(p.prompt, p.a, p.b) for p in batch]) for batch in batches]
        notes: dict[str, str] = {}
        learners = self._whole(ours, plain, full, samples, notes)
        return {"task": "stage 1"} | self._measure(ours, samples, learners, rounds, notes)

    def _judge(self, engine: Engine) -> Judge:
        return Judge(self._renderer, label_smoothing=_EPS, engine=engine)

    def _whole(
        self, ours: Objective[Any], plain: Objective[Any], full: Loss, batches: Batches, notes: dict[str, str]
    ) -> dict[str, Learner]:
        """Ours and its peers that train all weights; ``notes`` takes those that cannot be run here."""
        peers: dict[str, Loss] = {"plain": partial(_loss, plain, self._peer)}
        logit_bytes = _COPIES * 4 * max(map(_padded, batches)) * self._peer.config.vocab_size
        if logit_bytes < self._free():
            peers["full"] = full
        else:
            notes["full"] = f"not run: its logits would take {logit_bytes / 1e9:.0f} GB"
        autocast = torch.bfloat16 if self._bf16 else None
        learners = {"ours": _learner(ours, self._ours)}
        if self._unfused is not None:
            learners["unfused"] = _learner(ours, self._unfused)
        return learners | {
            name: Learner(loss, self._peer_parameters, self._peer_optimizer, autocast)
            for name, loss in peers.items()
        }

    def _without_fusing(self, *, lora: bool) -> Training:
        return for_training(copy.deepcopy(self._peer), bf16=self._bf16, lora=lora, fused=False)

    def _measure(
        self,
        objective: Objective[Any],
        batches: Batches,
        learners: Mapping[str, Learner],
        rounds: int,
        notes: Mapping[str, str],
        *,
        trl: TrlSteps | None = None,
        adapters: int | None = None,
    ) -> dict[str, Any]:
        """One row of the table; ``ratio`` is the peer's time over ours, ``ideal`` what it could be."""
        ours = learners["ours"]
        difference = self._differences(learners, batches[0])
        steps: dict[str, Callable[[], Any]] = {name: one.steps(batches) for name, one in learners.items()}
        for learner in learners.values():
            learner.make_state()
        if trl:
            steps["trl"] = trl.run
            trl.run()  # its optimizer, too, makes its state; the kernels of the others were met above
        rows = [[row for sample in batch for row in sample.rows] for batch in batches]
        tokens = [unique([row.ids for row in batch])[0] for batch in rows]
        typical = sum(tokens) // len(tokens)
        paths = {**steps, "matmul": body_matmuls(self._peer, typical, self._dtype)}
        timings = self._machine.in_turn(paths, rounds)
        base = timings["ours"]
        scored = sum(len(row.scored) for batch in rows for row in batch)
        least = Cost(sum(tokens), scored)
        costs = self._costs(batches, trl)
        ceiling = 2 * self._work.body * typical / timings["matmul"].median
        flops = sum(self._work.step_flops([row.ids for row in batch], adapters=adapters) for batch in rows)
        flops += self._work.step_flops([], scored=scored, adapters=adapters)
        units = sum(len(batch) for batch in batches) if objective.unit == "pair" else scored
        return {
            "unit": objective.unit,
            "engine": objective.engine,
            "rounds": rounds,
            "pairs": len(batches[0]),
            "batches": len(batches),
            "tokens": {
                "rows": sum(len(row.ids) for batch in rows for row in batch),
                "unique": sum(tokens),
                "padded": sum(map(_padded, batches)),
                **({"trl": trl.tokens} if trl else {}),
            },
            "seconds_per_step": {name: timings[name].median / len(batches) for name in steps},
            "per_second": {name: units / timings[name].median for name in steps},
            "tokens_per_second": sum(tokens) / base.median,
            "gflops": flops / base.median / 1e9,
            "ratio": {name: spread(timings[name].seconds, base.seconds) for name in steps if name != "ours"},
            "ideal": {name: self._work.ratio(cost, least) for name, cost in costs.items() if name in steps},
            "ceiling_gflops": ceiling / 1e9,
            "fraction": flops / ceiling / base.median,
            "profile": shares(steps["ours"], self._machine.device),
            "memory_mb": {name: timings[name].memory for name in steps},
            "gradients_mb": sum(p.numel() * p.element_size() for p in ours.parameters) / 1e6,
            "gradient_difference": difference,
            "notes": dict(notes),
        }

    def _differences(self, learners: Mapping[str, Learner], samples: Sequence[Sample]) -> dict[str, float]:
        """Per peer, how far its gradients are from ours."""
        mine = gradients(learners["ours"], samples)
        peers = (name for name in learners if name != "ours")
        return {name: apart(mine, gradients(learners[name], samples)) for name in peers}

    def _costs(self, batches: Batches, trl: TrlSteps | None) -> dict[str, Cost]:
        """What each peer reads in a round."""
        padded = sum(map(_padded, batches))
        prompts = sum(len(sample.rows) for batch in batches for sample in batch)
        costs = {"full": Cost(padded, padded), "hf": Cost(padded, prompts)}
        return costs | ({"trl": Cost(trl.tokens, 0)} if trl else {})

    def _peer_logits(self, samples: Sequence[Sample]) -> Tensor:
        batch = left_pad([row.ids for sample in samples for row in sample.rows])
        batch = {name: value.to(self._peer.device) for name, value in batch.items()}
        return self._peer(**batch, use_cache=False).logits

    def _free(self) -> float:
        if self._machine.device == "cuda":
            return _FREE_SHARE * torch.cuda.mem_get_info()[0]
        return _FREE_SHARE * psutil.virtual_memory().available


def _learner(objective: Objective[Any], training: Training) -> Learner:
    loss = partial(_loss, objective, training.model)
    return Learner(loss, training.parameters, training.optimizer, training.autocast)


def _loss(objective: Objective[Any], model: Any, samples: Sequence[Sample]) -> Tensor:
    batch = {name: value.to(model.device) for name, value in objective.collate(samples).items()}
    return objective.loss_sum(model, batch).loss / objective.count(batch)


def _padded(samples: Sequence[Sample]) -> int:
    """Tokens of a batch, padded to its longest row."""
    return sum(len(sample.rows) for sample in samples) * max(sample.length for sample in samples)

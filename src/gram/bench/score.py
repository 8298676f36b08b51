"""Scoring, timed: our engine beside a careful user's batches and the published way of asking.

The paths, from token ids to P(first label), with the same weights:
  ours        the tree engine, through the runner that ``gram.load`` uses
  unfused     the same over transformers' own layers, in bf16 on a GPU
  plain       the same runner with the plain engine
  last        prompts sorted by length, left-padded batches of the size that is fastest for it here, logits
              of the last position only
  decision    transformers' own ``pipeline("decision")``, one prompt after the other (``decision.py``)
  reference   one pair at a time, both orders as a left-padded batch, logits of the whole vocabulary at every
              position; timed on some of the pairs and scaled by the tokens it reads
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gram.bench.arithmetic import Cost, Work, padded_tokens, unique
from gram.bench.decision import Decisions, pipeline_is_there
from gram.bench.measure import Machine, body_matmuls, spread
from gram.bench.ours import for_scoring
from gram.bench.profiling import shares
from gram.bench.shapes import twin
from gram.bench.workloads import Workload
from gram.engine import trie
from gram.engine.base import TokenRow
from gram.engine.plain import left_pad
from gram.engine.runner import Runner
from gram.rendering import Encoded, Renderer
from gram.types import FloatArray, Pair, sigmoid

PEER_BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (4, 8, 16, 32, 64)}
REFERENCE_PAIRS = 6
CHECKED = 48  # prompts that are asked one by one

Batches = Sequence[Sequence[int]]


class Scoring:
    """All paths through one model.

    Args:
        peer_batch: prompts in a batch of the last-position path; None: tried out on ``sample``.
        sample: pairs to warm up on.
        unfused: time ours over transformers' own layers too.
    """

    def __init__(
        self,
        model: Any,
        renderer: Renderer,
        machine: Machine,
        *,
        sample: Sequence[Pair],
        token_budget: int | None = None,
        peer_batch: int | None = None,
        unfused: bool = False,
    ) -> None:
        self._machine = machine
        self._renderer = renderer
        self._peer = twin(model)
        self._model = model
        self._ours = for_scoring(model, token_budget)
        self._unfused = for_scoring(twin(model), token_budget, fused=False) if unfused else None
        # On a twin of its own: it fuses layers too, and the other peers have those of transformers.
        self._plain = Runner(twin(model), token_budget=token_budget, engine="plain")
        self._work = Work.of(model)
        self._peer_batch = self._warm_up(renderer.judge(sample), peer_batch)

    @property
    def facts(self) -> dict[str, Any]:
        """What holds for all workloads."""
        return {
            "engine": self._ours.engine,
            "token_budget": self._ours.token_budget,
            "peer_batch": self._peer_batch,
            "body_parameters": self._work.body,
            "vocabulary_parameters": self._work.head,
        }

    def measure(self, workload: Workload, rounds: int) -> dict[str, Any]:
        """One row of the table; ``ratio`` is the peer's time over ours, ``ideal`` what it could be."""
        pairs = workload.pairs
        prompts = self._renderer.judge([*pairs, *(pair.swapped() for pair in pairs)])
        lengths = [len(prompt.ids) for prompt in prompts]
        sorted_batches = by_length(lengths, self._peer_batch)
        all_pairs = [(number, number + len(pairs)) for number in range(len(pairs))]
        some_pairs = spaced(sorted(all_pairs, key=lambda pair: lengths[pair[0]]), REFERENCE_PAIRS)
        packs = self._packs(prompts)
        paths = {
            "ours": lambda: self._scored(self._ours, prompts),
            "plain": lambda: self._scored(self._plain, prompts),
            "last": lambda: self._padded(prompts, sorted_batches, whole=False),
            "reference": lambda: self._padded(prompts, some_pairs, whole=True),
            "matmul": body_matmuls(self._model, max(1, sum(packs) // len(packs)), self._model.dtype),
        }
        if (unfused := self._unfused) is not None:
            paths["unfused"] = lambda: self._scored(unfused, prompts)
        if workload.decision and pipeline_is_there():
            paths["decision"] = Decisions(self._peer, self._renderer, pairs).ask
        timings = self._machine.in_turn(paths, rounds)
        ours = timings["ours"]
        rows = [prompt.ids for prompt in prompts]
        tokens, _ = unique(rows)
        scale = padded_tokens(lengths, all_pairs) / padded_tokens(lengths, some_pairs)
        costs = {
            "last": Cost(padded_tokens(lengths, sorted_batches), len(prompts)),
            "reference": Cost(*[padded_tokens(lengths, all_pairs)] * 2),
            "decision": Cost(sum(lengths), len(prompts)),
        }
        least = Cost(tokens, len(prompts))
        ceiling = 2 * self._work.body * (sum(packs) // len(packs)) / timings["matmul"].median
        whole = ("ours", "unfused", "plain", "last", "decision")  # read all prompts
        every = [name for name in whole if name in paths]
        peer_seconds = {name: timings[name].seconds for name in every[1:]}
        peer_seconds["reference"] = [scale * seconds for seconds in timings["reference"].seconds]
        return {
            "workload": workload.name,
            "prompts": len(prompts),
            "tokens": {
                "prompts": sum(lengths),
                "unique": tokens,
                "packs": sum(packs),
                "last": costs["last"].tokens,
            },
            "seconds": {"ours": ours.median}
            | {name: float(np.median(seconds)) for name, seconds in peer_seconds.items()},
            "ratio": {name: spread(seconds, ours.seconds) for name, seconds in peer_seconds.items()},
            "ideal": {name: self._work.ratio(cost, least) for name, cost in costs.items() if name in paths},
            "tokens_per_second": tokens / ours.median,
            "gflops": self._work.flops(rows) / ours.median / 1e9,
            "reference_pairs": len(some_pairs),
            "ceiling_gflops": ceiling / 1e9,
            "fraction": self._work.flops(rows) / ceiling / ours.median,
            "profile": shares(paths["ours"], self._machine.device),
            "memory_mb": {name: timings[name].memory for name in paths if name != "matmul"},
            "rounds": rounds,
            "notes": self._notes(workload),
        } | self._agreement(prompts, {name: one.result for name, one in timings.items() if name in every})

    def _notes(self, workload: Workload) -> dict[str, str]:
        """Peers that cannot be run here, and why not."""
        missing = workload.decision and not pipeline_is_there()
        return {"decision": "transformers is too old"} if missing else {}

    def _agreement(self, prompts: Sequence[Encoded], found: Mapping[str, FloatArray]) -> dict[str, Any]:
        """How far each path is from prompts asked one by one, and how far these lie apart."""
        checks = spaced(range(len(prompts)), CHECKED)
        alone = self._padded(prompts, [[number] for number in checks], whole=False)
        return {
            "max_dp": {name: float(np.abs(p - alone)[checks].max()) for name, p in found.items()},
            "p_spread": float(np.std(alone[checks])),
        }

    def _packs(self, prompts: Sequence[Encoded]) -> list[int]:
        """Tokens in each of our forward passes."""
        ids = [prompt.ids for prompt in prompts]
        packs = trie.cut(ids, self._ours.token_budget)
        return [trie.build([ids[number] for number in pack]).tokens for pack in packs]

    def _scored(self, runner: Runner, prompts: Sequence[Encoded]) -> FloatArray:
        rows = [TokenRow(prompt.ids) for prompt in prompts]
        logprobs = runner.next_logprobs(rows, self._renderer.label_ids)
        return sigmoid(logprobs[:, 0] - logprobs[:, 1])

    def _padded(self, prompts: Sequence[Encoded], batches: Batches, *, whole: bool) -> FloatArray:
        """(n,) P(first label) of the prompts in the batches; NaN for others."""
        p_first = np.full(len(prompts), np.nan)
        labels = list(self._renderer.label_ids)
        keep = {} if whole else {"logits_to_keep": 1}
        with torch.inference_mode():
            for batch in batches:
                laid_out = left_pad([prompts[number].ids for number in batch])
                inputs = {name: value.to(self._peer.device) for name, value in laid_out.items()}
                logits = self._peer(**inputs, use_cache=False, **keep).logits[:, -1, labels]
                p_first[list(batch)] = logits.float().softmax(dim=-1)[:, 0].cpu().numpy()
        return p_first

    def _warm_up(self, prompts: Sequence[Encoded], peer_batch: int | None) -> int:
        """Does what happens once only (kernels chosen, buffers made); returns the batch size for the peer."""
        few = prompts[:2]
        self._scored(self._ours, few)
        self._scored(self._plain, few)
        self._padded(few, [[0, 1]], whole=True)
        if peer_batch is not None:
            return peer_batch
        lengths = [len(prompt.ids) for prompt in prompts]

        def tried(size: int) -> Callable[[], FloatArray]:
            return lambda: self._padded(prompts, by_length(lengths, size), whole=False)

        sizes = {str(s): tried(s) for s in PEER_BATCHES[self._machine.device] if s <= len(prompts)}
        timings = self._machine.in_turn(sizes, rounds=2)
        return int(min(timings, key=lambda size: min(timings[size].seconds)))


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches of ``size`` rows of similar length."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[start : start + size] for start in range(0, len(order), size)]


def spaced(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of the items, evenly spaced, the ends among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]

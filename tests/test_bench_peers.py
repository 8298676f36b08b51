"""Peers of the bench that others wrote: they are asked, or trained on, the very same as ours."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from gram.bench import workloads
from gram.bench.decision import Decisions, pipeline_is_there
from gram.bench.lora_step import lora_learner
from gram.bench.measure import Machine
from gram.bench.ours import for_training
from gram.bench.score import Scoring
from gram.bench.shapes import QUICK, build, renderer_for, tokenizer_for, twin
from gram.bench.workloads import Sizes, Workload
from gram.engine.fused import is_fused
from gram.errors import ConfigError
from gram.objectives.preference import Judge
from gram.rendering import Renderer
from gram.types import Preference


@pytest.fixture(scope="module")
def texts() -> tuple[Renderer, list[Workload]]:
    contests = workloads.made_up(12, seed=0)
    words = [answer for contest in contests for answer in contest.responses]
    return renderer_for(tokenizer_for(words)), workloads.scoring(contests, Sizes(2, {}, {}, ring=3), seed=0)


def test_peers_of_scoring_run_layers_of_transformers(texts: tuple[Renderer, list[Workload]]) -> None:
    """Choosing an engine in bf16 fuses layers: those of ours and of plain, and of no peer."""
    renderer, [independent, _] = texts
    model = build(QUICK["real"], dtype=torch.bfloat16, device="cpu", seed=0)
    scoring = Scoring(model, renderer, Machine("cpu"), sample=independent.pairs, peer_batch=1, unfused=True)
    assert scoring._unfused is not None
    assert is_fused(model) and is_fused(scoring._plain._model)
    assert not is_fused(scoring._peer) and not is_fused(scoring._unfused._model)


@pytest.mark.skipif(not pipeline_is_there(), reason="needs a newer transformers")
def test_the_decision_pipeline_reads_the_same_tokens(texts: tuple[Renderer, list[Workload]]) -> None:
    """Ids one by one, and the softmax over the two labels of the stock model's own logits."""
    renderer, [_, ring] = texts
    model = twin(build(QUICK["real"], dtype=torch.float32, device="cpu", seed=0))
    known = len(renderer.tokenizer)
    peer = Decisions(model, renderer, ring.pairs)
    prompts = renderer.judge([*ring.pairs, *(pair.swapped() for pair in ring.pairs)])
    assert peer.ids == [prompt.ids for prompt in prompts] and len(peer.ids) == 6
    with torch.inference_mode():
        logits = [model(torch.tensor([ids])).logits[0, -1, list(renderer.label_ids)] for ids in peer.ids]
    torch.testing.assert_close(torch.from_numpy(peer.ask()).float(), torch.stack(logits).softmax(-1)[:, 0])
    assert len(renderer.tokenizer) == known  # what the pipeline adds is not added to ours


def test_a_request_to_the_pipeline_has_one_prompt(texts: tuple[Renderer, list[Workload]]) -> None:
    renderer, [independent, _] = texts
    model = twin(build(QUICK["real"], dtype=torch.float32, device="cpu", seed=0))
    with pytest.raises(ConfigError, match="has one prompt, got pairs of 2"):
        Decisions(model, renderer, independent.pairs)


def test_the_plain_lora_loop_trains_on_what_ours_trains_on(texts: tuple[Renderer, list[Workload]]) -> None:
    """Its loss is torch's own cross-entropy with smoothed labels, 1 - eps and eps, of prompts read singly.

    In bf16 all of its weights are bf16; the model it copies keeps its own.
    """
    renderer, [independent, _] = texts
    stock = twin(build(QUICK["real"], dtype=torch.float32, device="cpu", seed=0))
    training = for_training(copy.deepcopy(stock), bf16=False, lora=True)
    labels = renderer.label_ids
    objective = Judge(renderer, label_smoothing=0.1, engine=training.engine)
    samples = objective.encode([Preference(pair, 1.0) for pair in independent.pairs])
    peer = lora_learner(stock, training.parameters, dtype=torch.float32, labels=labels, smoothing=0.1)
    losses = []
    for sample in samples:
        for row, first in zip(sample.rows, (1.0, 0.0), strict=True):
            logits = stock(torch.tensor([row.ids])).logits[0, -1, list(labels)]
            target = torch.tensor([0.9, 0.1]) if first else torch.tensor([0.1, 0.9])
            losses.append(cross_entropy(logits, target))
    torch.testing.assert_close(peer.loss(samples), torch.stack(losses).mean())
    low = lora_learner(stock, training.parameters, dtype=torch.bfloat16, labels=labels, smoothing=0.1)
    assert {parameter.dtype for parameter in low.parameters} == {torch.bfloat16}
    assert {parameter.dtype for parameter in stock.parameters()} == {torch.float32}
    assert abs(low.loss(samples).item() - peer.loss(samples).item()) < 0.1

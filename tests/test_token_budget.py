"""Training steps are cut by tokens: how, what that may change (nothing), and what it costs in memory."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import (
    Gemma3nTextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from conftest import make_preferences, run, sharpened
from gram import Preference, ResponsePair
from gram.asking import Precision
from gram.engine import trie
from gram.engine.base import Batch, Engine, TokenRow
from gram.engine.choose import choose_engine
from gram.engine.memory import bytes_per_trained_token, keys_that_fit, training_budget_for
from gram.engine.plain import Plain
from gram.engine.tree import Tree
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.presets import Preset, build_model
from gram.objectives.language import Language
from gram.objectives.objective import Objective, Sample, Sums
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer
from gram.training.fit import FitSettings, fit
from gram.training.stream import Stream
from small_models import fresh

MICRO = Preset(hidden=32, layers=2, heads=2, mlp=64, vocab_size=400, context=1024)
SETTINGS = FitSettings(steps=1, batch_size=8, learning_rate=3e-3, log_steps=1)
OBJECTIVES: dict[str, Callable[[Renderer, Engine], Objective[Any]]] = {
    "language": lambda renderer, engine: Language(renderer, engine=engine),
    "preference": lambda renderer, engine: Judge(renderer, label_smoothing=0.1, engine=engine),
    "scalar": lambda renderer, engine: Scalar(renderer, margin=True, centring=0.01, engine=engine),
}
Work = tuple[Any, Objective[Any], list[Sample]]
MakeWork = Callable[[str, str], Work]


@pytest.fixture
def make(preset: LoadedModel, renderer: Renderer, preferences: list[Preference]) -> MakeWork:
    """A fresh model, an objective on an engine, and 16 samples, eight prompts twice each."""

    def work(name: str, engine: str) -> Work:
        model: Any = sharpened(build_model(MICRO, cast(Any, preset.tokenizer), 3), 2.0)
        if name == "scalar":
            model = add_score_head(LoadedModel(model, preset.tokenizer, None), seed=4).model
        objective = OBJECTIVES[name](renderer, choose_engine(model, engine, training=True))  # type: ignore[arg-type]
        assert objective.engine == engine
        items: Sequence[Any] = [*preferences[:8], *(item.swapped() for item in preferences[:8])]
        if name == "language":
            items = [ResponsePair(item.pair.prompt, item.pair.a, item.pair.b) for item in items]
        return model, objective, objective.encode(items)

    return work


class Watched(Objective[Any]):
    """An objective that notes the tokens of every forward pass, in training and outside."""

    def __init__(self, inner: Objective[Any]) -> None:
        super().__init__(inner._engine)
        self._inner = inner
        self.trained: list[int] = []
        self.evaluated: list[int] = []

    def encode(self, examples: Sequence[Any]) -> list[Sample]:
        return self._inner.encode(examples)

    def count(self, batch: Batch) -> Tensor:
        return self._inner.count(batch)

    def loss_sum(self, model: nn.Module, batch: Batch) -> Sums:
        (self.trained if model.training else self.evaluated).append(batch["input_ids"].numel())
        return self._inner.loss_sum(model, batch)


# --- How a step is cut ---


def drawn(draw: random.Random) -> list[list[list[int]]]:
    """Groups of one to three sequences over few tokens, so that many begin alike or are equal."""
    roots = [[draw.randrange(3) for _ in range(draw.randrange(1, 12))] for _ in range(3)]
    return [
        [
            draw.choice(roots)[: draw.randrange(1, 12)]
            + [draw.randrange(3) for _ in range(draw.randrange(9))]
            for _ in range(draw.randrange(1, 4))
        ]
        for _ in range(draw.randrange(1, 9))
    ]


def test_packs_hold_whole_groups_and_keep_to_the_budget() -> None:
    """300 draws: every group once, and no more tokens than allowed, counted in the layouts themselves."""
    draw = random.Random(0)
    crowded = 0
    for _ in range(300):
        groups, budget = drawn(draw), draw.randrange(1, 60)
        rows = [[TokenRow(ids) for ids in group] for group in groups]
        for engine in (Tree(), Plain()):
            packs = list(engine.cut_groups(rows, budget))
            assert sorted(place for pack in packs for place in pack) == list(range(len(groups)))
            for pack in packs:
                read = engine.lay_out([row for place in pack for row in rows[place]])["input_ids"].numel()
                assert read <= budget or len(pack) == 1
                crowded += len(pack) > 1
    assert crowded > 300


def test_what_groups_share_is_counted_once() -> None:
    """Four groups of the same 20 tokens and one of their own each: 24 tokens together, and not 84."""
    groups = [[[*range(1, 21), 100 + place]] for place in range(4)]
    assert trie.build([group[0] for group in groups]).tokens == 24
    assert list(trie.cut_groups(groups, 21 + 3 * 4)) == [[0, 1, 2, 3]]  # a branch counts up to 3 tokens more
    assert list(Plain().cut_groups([[TokenRow(group[0])] for group in groups], 42)) == [[0, 1], [2, 3]]


def test_a_single_sample_may_be_larger_than_the_budget() -> None:
    groups = [[[1] * 50, [2] * 50], [[3] * 4, [4] * 4]]
    assert sorted(trie.cut_groups(groups, 10)) == [[0], [1]]
    assert not list(trie.cut_groups([], 10)) and not list(Plain().cut_groups([], 10))


def test_processes_get_about_as_much_to_read() -> None:
    """Eight samples of 1 to 8 tokens: of two the larger to who has less: 8 + 5 + 4 + 1 and 7 + 6 + 3 + 2."""
    samples = [Sample((TokenRow([7] * length),)) for length in range(1, 9)]
    stream = Stream(samples, steps=1, batch_size=8, seed=0, processes=2)
    assert [sample.length for sample in stream] == [8, 5, 4, 1, 7, 6, 3, 2]
    alone = Stream(samples, steps=1, batch_size=8, seed=0)
    assert [sample.length for sample in alone] == [8, 7, 6, 5, 4, 3, 2, 1]


# --- What it changes ---


def add(total: Tensor, gradient: Tensor) -> None:
    total += gradient


@pytest.mark.parametrize("engine", ["tree", "plain"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_do_not_depend_on_the_budget(name: str, engine: str, make: MakeWork) -> None:
    """One step as one pass, as a few, and sample by sample: equal to 2e-6 of the gradient."""
    found: dict[int, tuple[int, dict[str, Tensor]]] = {}
    for budget in (100_000, 250, 1):
        model, objective, samples = make(name, engine)
        watched = Watched(objective)
        sums = {key: torch.zeros_like(value, dtype=torch.float64) for key, value in model.named_parameters()}
        for key, value in model.named_parameters():
            value.register_hook(partial(add, sums[key]))
        fit(model, watched, samples, replace(SETTINGS, token_budget=budget), title=None)
        found[budget] = len(watched.trained), sums
    passes = [count for count, _ in found.values()]
    assert passes[0] == 1 < passes[1] < passes[2] == 8
    wanted = found[100_000][1]
    size = torch.stack([value.norm() for value in wanted.values()])
    assert size.min() > 0
    for _, sums in found.values():
        difference = torch.stack([(value - wanted[key]).norm() for key, value in sums.items()])
        assert difference.norm() <= 2e-6 * size.norm()


@pytest.mark.parametrize("engine", ["tree", "plain"])
def test_no_pass_reads_more_than_the_budget(engine: str, make: MakeWork) -> None:
    """In training and in evaluation; one step reads the tokens of its samples and nothing twice."""
    model, objective, samples = make("preference", engine)
    largest = max(next(iter(objective.micro_batches([s], 1)))["input_ids"].numel() for s in samples)
    budget = 2 * largest
    watched = Watched(objective)
    settings = replace(SETTINGS, steps=2, token_budget=budget)
    fit(model, watched, samples, settings, eval_samples=samples[:7], title=None)
    assert len(watched.trained) > 2 and len(watched.evaluated) > 2
    assert max(watched.trained) <= budget and max(watched.evaluated) <= budget


def test_gradients_are_shared_once_a_step(make: MakeWork, monkeypatch: pytest.MonkeyPatch) -> None:
    """All passes of a step but the last are kept from sharing."""
    apart = 0

    @contextlib.contextmanager
    def no_sync(self: Accelerator, model: Any) -> Iterator[None]:
        nonlocal apart
        apart += 1
        yield

    monkeypatch.setattr(Accelerator, "no_sync", no_sync)
    model, objective, samples = make("preference", "tree")
    watched = Watched(objective)
    fit(model, watched, samples, replace(SETTINGS, steps=3, token_budget=300), title=None)
    assert len(watched.trained) > 6 and apart == len(watched.trained) - 3


def test_an_adaptation_does_not_depend_on_it(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    pairs = [(row.pair, row.p_a) for row in make_preferences(24) if row.p_a in (0.0, 1.0)]
    rows = [
        {"prompt": f"{n} {p.prompt[0].content}", "a": p.a, "b": p.b, "p_a": q}
        for n, (p, q) in enumerate(pairs)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick = ["--max-steps", 2, "--folds", 2, "--learning-rates", 1e-3, "--device", "cpu"]
    found = []
    for budget in ([], ["--token-budget", 150]):
        flags = ["--model", judge_folder, "--data", data, "--output", tmp_path / f"out{len(budget)}"]
        code, result, err = run(capsys, "adapt", *flags, *quick, *budget)
        assert code == 0, err
        found.append(result["after"]["log_loss"])
    assert found[1] == pytest.approx(found[0], abs=1e-5)


# --- What it costs ---


def llama(heads: int) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=200, hidden_size=64, intermediate_size=176, num_hidden_layers=4,
            num_attention_heads=heads, num_key_value_heads=heads // 2, tie_word_embeddings=True,
        )
    )  # fmt: skip


def qwen() -> PreTrainedModel:
    """Heads that are together wider than the hidden states."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=200, hidden_size=64, intermediate_size=192, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
        )
    )  # fmt: skip


def kept_bytes(model: PreTrainedModel, engine: Engine, batch: Batch, dtype: Precision) -> int:
    """What autograd keeps for the backward pass, weights aside, each memory once."""
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in weights:
            kept[value.untyped_storage().data_ptr()] = value
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"),
    ):
        engine.next_logits(model, batch, [5, 6]).sum()
    return sum(value.untyped_storage().nbytes() for value in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("build", [lambda: llama(4), lambda: llama(2), qwen], ids=["llama", "heads", "qwen"])
def test_the_estimate_is_what_autograd_keeps(
    build: Callable[[], PreTrainedModel], dtype: Precision, checkpointing: bool
) -> None:
    """Pairs in both orders on a trie: not below what all layers keep, and less than thrice as much."""
    torch.manual_seed(0)
    model = build().train()
    engine = choose_engine(model, "tree", training=True)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    draw = random.Random(1)
    a, b, prompt = ([draw.randrange(200) for _ in range(length)] for length in (60, 60, 120))
    batch = engine.lay_out([TokenRow([*prompt, *a, *b]), TokenRow([*prompt, *b, *a])])
    kept = kept_bytes(model, engine, batch, dtype) / batch["input_ids"].numel()
    options: dict[str, Any] = {"checkpointing": checkpointing, "all_logits": False}
    counted = bytes_per_trained_token(model.config, dtype, **options)
    model.config.num_hidden_layers = 0  # what is there at once, of one layer after another
    counted -= bytes_per_trained_token(model.config, dtype, **options)
    assert kept <= counted < 3 * kept


def test_the_budget_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power of two; half the memory, or two processes, or precious little: half as much, or one token."""
    model = llama(4)
    each = bytes_per_trained_token(model.config, "fp32", checkpointing=False, all_logits=False)
    optimizer = 12 * sum(value.numel() for value in model.parameters())

    def budget(free: float, *, processes: int = 1, **other: Any) -> int:
        memory = SimpleNamespace(available=int(free))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        how = {"checkpointing": False, "all_logits": False} | other
        return training_budget_for(model, "fp32", processes=processes, **how)

    thousand = optimizer + 1_100 * each / 0.4
    assert budget(thousand) == 1024
    assert budget(2 * thousand, processes=2) == 1024 and budget(thousand, processes=2) in (256, 512)
    assert budget(thousand, checkpointing=True) > 1024
    model.config.vocab_size = 100_000
    assert budget(thousand, all_logits=True) < 1024
    assert budget(optimizer) == budget(0) == 1 and budget(1e15) == 8_192
    model.requires_grad_(False)
    assert budget(thousand - optimizer) == 1024


def test_sizes_that_differ_between_layers_count_at_their_widest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma 4 with heads of 8 and of 16, four for queries and two for keys: hidden states of max(32, 4 * 16),
    so a layer keeps 8 * 4 * (64 + 64) = 4,096 bytes in fp32, and two layers with two at once 16,384. Keys and
    values of two layers are 2 * 2 * 2 * 16 * 4 = 512 bytes a token. Gemma 3n names its MLPs of 64 and 96 in a
    list: 8 * 4 * (32 + 96) = 4,096 again.
    """
    how = {"checkpointing": False, "all_logits": False}
    gemma4 = fresh("gemma4", 60)
    assert bytes_per_trained_token(gemma4.config, "fp32", **how) == 16_384
    memory = SimpleNamespace(available=512 * 1_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert keys_that_fit(gemma4) == 100_000  # in a tenth of what is free
    shape: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "head_dim": 8}
    gemma3n = Gemma3nTextConfig(**shape, num_hidden_layers=2, intermediate_size=[64, 96])
    assert bytes_per_trained_token(gemma3n, "fp32", **how) == 16_384

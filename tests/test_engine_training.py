"""Training on tries: the losses, gradients and weights of the plain path; and wrappers that do their work."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from conftest import sharpened
from gram import Preference, ResponsePair, Text
from gram.engine.base import Engine
from gram.engine.choose import choose_engine
from gram.engine.plain import Plain
from gram.engine.tree import Tree
from gram.modeling.loading import LoadedModel, add_score_head
from gram.modeling.presets import Preset, build_model
from gram.modeling.trainable import LoraSettings, add_lora, freeze
from gram.objectives.language import Language
from gram.objectives.likelihood import Likelihood
from gram.objectives.objective import Objective, Sample
from gram.objectives.preference import Judge
from gram.objectives.scalar import Scalar
from gram.rendering import Renderer
from gram.training.fit import FitSettings, fit
from gram.training.wrapped import through
from small_models import family, fresh
from test_engine_agreement import assert_same_gradients, both, gradients

VOCAB = 60
MICRO = Preset(hidden=32, layers=2, heads=2, mlp=64, vocab_size=400, context=1024)
SETTINGS = FitSettings(steps=3, batch_size=8, learning_rate=3e-3, log_steps=1, eval_steps=3)

OBJECTIVES: dict[str, Callable[[Renderer, Engine, Any], Objective[Any]]] = {
    "language": lambda r, engine, _: Language(r, engine=engine),
    "preference": lambda r, engine, _: Judge(r, label_smoothing=0.1, engine=engine),
    "scalar": lambda r, engine, _: Scalar(r, margin=True, centring=0.01, engine=engine),
    "regularised": lambda r, engine, _: Scalar(r, text_regulariser=0.2, engine=engine),
    "likelihood": lambda r, engine, _: Likelihood(r, label_smoothing=0.1, length_power=0.5, engine=engine),
    "imitation": lambda r, engine, _: Likelihood(r, label_smoothing=0.1, form="cross_entropy", engine=engine),
    "dpo": lambda r, engine, reference: Likelihood(
        r, label_smoothing=0.1, beta=0.3, context="judge", reference=reference, engine=engine
    ),
}
each_objective = pytest.mark.parametrize("name", OBJECTIVES)
Work = tuple[Any, Objective[Any], list[Sample]]
MakeWork = Callable[[str, bool], Work]


def work_of(
    preset: LoadedModel,
    renderer: Renderer,
    preferences: list[Preference],
    name: str,
    tree: bool,
    prepare: Callable[[Any], Any] = lambda model: model,
) -> Work:
    """A fresh model, an objective by name on a trie or not, and samples of it; all the same each time."""

    def body(seed: int, score: bool = False) -> Any:
        model: Any = sharpened(build_model(MICRO, cast(Any, preset.tokenizer), seed), 2.0)
        return add_score_head(LoadedModel(model, preset.tokenizer, None), seed=4).model if score else model

    model, reference = body(3, score=name in ("scalar", "regularised")), body(5)
    if tree:
        assert choose_engine(model).name == choose_engine(reference).name == "tree"
    objective = OBJECTIVES[name](renderer, Tree() if tree else Plain(), reference)
    items: Sequence[Any] = preferences[:16]
    if name == "language":
        items = [ResponsePair(item.pair.prompt, item.pair.a, item.pair.b) for item in items]
        items = [*items, Text(items[0].first)]
    return prepare(model), objective, objective.encode(items)


@pytest.fixture(scope="module")
def make(preset: LoadedModel, renderer: Renderer, preferences: list[Preference]) -> MakeWork:
    return lambda name, tree: work_of(preset, renderer, preferences, name, tree)


@each_objective
def test_losses_metrics_and_gradients(name: str, make: MakeWork) -> None:
    found = []
    for tree in (True, False):
        model, objective, samples = make(name, tree)
        batch = objective.collate(samples)
        sums = objective.loss_sum(model, batch)
        (sums.loss / objective.count(batch)).backward()
        found.append((model, objective.count(batch).item(), sums))
    (ours, count, mine), (theirs, plain_count, wanted) = found
    assert count == plain_count
    assert mine.loss.item() == pytest.approx(wanted.loss.item(), rel=1e-5)
    assert mine.metrics.keys() == wanted.metrics.keys()
    for key, value in mine.metrics.items():
        assert value.item() == pytest.approx(wanted.metrics[key].item(), rel=1e-5, abs=1e-4)
    assert_same_gradients(ours, theirs)


def everything(model: Any) -> Any:
    return model


def only_the_head(model: Any) -> Any:
    freeze(model, 0)
    return model


def adapters(model: Any) -> Any:
    torch.manual_seed(0)
    return add_lora(model, LoraSettings(rank=2, alpha=4), score_head="Sequence" in type(model).__name__)


def trained(work: Work, settings: FitSettings, prepare: Callable[[Any], Any] = everything) -> Any:
    """The result of a run, and the weights after it; evaluated on five samples on the way."""
    model, objective, samples = work
    model = prepare(model)
    result = fit(model, objective, samples, settings, eval_samples=samples[:5])
    losses = [entry["loss"] for entry in result.history if "loss" in entry]
    return losses, result.evaluation, {name: value.detach() for name, value in model.named_parameters()}


def assert_same_run(mine: Any, theirs: Any, atol: float = 2e-5) -> None:
    assert mine[0] == pytest.approx(theirs[0], rel=2e-5) and len(set(mine[0])) > 1
    assert mine[1] == pytest.approx(theirs[1], rel=2e-5)
    for name, value in mine[2].items():
        torch.testing.assert_close(
            value, theirs[2][name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("name", ["language", "preference", "scalar", "regularised", "dpo"])
def test_runs_with_accumulation(name: str, make: MakeWork) -> None:
    """Tries of at most 200 tokens, several to a step, against one padded batch of eight."""
    tree = trained(make(name, True), replace(SETTINGS, token_budget=200))
    assert_same_run(tree, trained(make(name, False), SETTINGS))


@pytest.mark.parametrize("name", ["language", "scalar", "regularised"])
@pytest.mark.parametrize("prepare", [only_the_head, adapters])
def test_runs_that_train_some_weights(name: str, prepare: Callable[[Any], Any], make: MakeWork) -> None:
    settings = replace(SETTINGS, gradient_checkpointing=prepare is adapters)
    assert_same_run(*(trained(make(name, tree), settings, prepare) for tree in (True, False)))


@pytest.mark.parametrize("name", ["language", "preference", "regularised"])
def test_runs_in_bf16(name: str, make: MakeWork) -> None:
    """Near a run in fp32, but not equal to it: the precision did change."""
    coarse, exact = (
        trained(make(name, True), replace(SETTINGS, dtype="bf16")),
        trained(make(name, True), SETTINGS),
    )
    assert coarse[0] == pytest.approx(exact[0], rel=0.05)
    assert coarse[0] != pytest.approx(exact[0], rel=1e-6)
    assert {value.dtype for value in coarse[2].values()} == {torch.float32}


# Through the wrapper


def loss_of(model: nn.Module) -> Tensor:
    engine = Tree()
    return engine.language_loss(model, engine.lay_out(family(VOCAB)))


def test_through_is_one_forward_pass_of_the_model() -> None:
    """Its hooks run; the value is that of the reader; afterwards the forward pass is the old one."""
    model, _ = both("llama")
    called: list[nn.Module] = []
    model.register_forward_hook(lambda module, *_: called.append(module))
    assert through(model, loss_of).item() == loss_of(model).item()
    assert called == [model] and "forward" not in model.__dict__


def test_through_puts_back_a_forward_pass_that_was_replaced() -> None:
    """As the trainer replaces it, for autocast; the reader itself meets it too."""
    model, _ = both("llama")
    plain = model.forward

    def replaced(*args: Any, **options: Any) -> Any:
        return plain(*args, **options)

    model.forward = replaced
    seen = through(model, lambda inner: torch.tensor(float(inner.forward is replaced)))
    assert seen.item() == 1.0 and model.forward is replaced


@pytest.mark.parametrize("before", [True, False])
def test_through_puts_everything_back_when_something_fails(before: bool) -> None:
    model, _ = both("llama")

    def fail(*_: Any) -> Tensor:
        raise KeyError("no")

    if before:  # the module raises before its forward pass is reached
        model.register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        through(model, fail)
    assert "forward" not in model.__dict__


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_data_parallel_wrapper_does_its_work(one_process: None) -> None:
    """It averages gradients, in buckets, only if it saw a forward pass; an engine alone goes unnoticed."""
    ours, theirs = both("llama")
    wrapped = DistributedDataParallel(ours)
    shared: list[int] = []

    def average(_, bucket):  # without annotations, which would have to be torch's own
        shared.append(bucket.buffer().numel())
        future: Any = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, average)
    loss_of(wrapped).backward()
    assert not shared
    ours.zero_grad()
    through(wrapped, loss_of).backward()
    assert sum(shared) == sum(value.numel() for value in ours.parameters())
    engine = Plain()
    engine.language_loss(theirs, engine.lay_out(family(VOCAB))).backward()
    assert_same_gradients(ours, theirs)


def test_a_copy_of_the_model_keeps_the_attention() -> None:
    """The trainer's best weights and the demo's copies are read as the original is."""
    ours, _ = both("llama")
    copied = copy.deepcopy(ours)
    assert loss_of(copied).item() == loss_of(ours).item()
    assert not gradients(copied)


def test_a_saved_model_does_not_name_our_attention(tmp_path: Path) -> None:
    """Others must be able to load it."""
    model = fresh("llama", VOCAB)
    choose_engine(model)
    model.save_pretrained(tmp_path)
    assert "gram_tree" not in (tmp_path / "config.json").read_text(encoding="utf-8")

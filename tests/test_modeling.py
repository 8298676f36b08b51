"""Checkpoints: what is saved scores the same after loading, and what is broken says where and why."""

from __future__ import annotations

import copy
import json
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gram
from conftest import MAX_LENGTH, make_manifest, sharpened
from gram import Pair, Preference
from gram.engine.base import TokenRow
from gram.engine.runner import Runner
from gram.errors import CheckpointError, ConfigError, GramError, TemplateError
from gram.modeling.loading import (
    LoadedModel,
    add_score_head,
    build_preset,
    choose_device,
    load_model,
    model_source,
)
from gram.modeling.manifest import FILE, Manifest, read_manifest
from gram.modeling.pooling import save_whole, set_pooling_pad
from gram.modeling.presets import PRESETS
from gram.modeling.saving import copy_checkpoint, library_versions, save_checkpoint
from gram.modeling.trainable import LoraSettings, add_lora, freeze, merged
from gram.rendering import Renderer, load_template
from gram.scoring.judge import JudgeModel
from gram.scoring.local import LocalBackend
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.types import FloatArray, as_chat
from small_models import causal, classifier, config_of


@pytest.fixture(scope="module")
def pairs(preferences: list[Preference]) -> list[Pair]:
    return [item.pair for item in preferences[:8]]


@pytest.fixture(scope="module")
def raw_folder(preset: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model as Hugging Face saves it, without ``gram.json``."""
    folder = tmp_path_factory.mktemp("raw") / "model"
    sharpened(copied(preset)).save_pretrained(folder)
    preset.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def altered(judge_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the judge's folder with other fields in its ``gram.json``; a value of None takes one out."""

    def alter(**fields: Any) -> Path:
        folder = tmp_path / "altered"
        shutil.copytree(judge_folder, folder)
        content = json.loads((folder / FILE).read_text(encoding="utf-8")) | fields
        content = {name: value for name, value in content.items() if value is not None}
        (folder / FILE).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return alter


def copied(loaded: LoadedModel) -> Any:
    return copy.deepcopy(loaded.model)


def weight(embedding: Any) -> torch.Tensor:
    return embedding.weight


def log_odds(model: Any, pairs: list[Pair]) -> FloatArray:
    return np.asarray(model.compare(pairs).log_odds)


def same(left: FloatArray, right: FloatArray) -> None:
    np.testing.assert_allclose(left, right, atol=1e-5, rtol=1e-5)


def differ(left: FloatArray, right: FloatArray) -> None:
    assert np.abs(left - right).max() > 1e-3


# Loading what is right


@pytest.mark.law(6)
def test_the_folder_says_what_it_is(judge_folder: Path, likelihood_folder: Path, scalar_folder: Path) -> None:
    assert isinstance(gram.load(judge_folder), JudgeModel)
    assert isinstance(gram.load(str(likelihood_folder)), LikelihoodModel)
    assert isinstance(gram.load(scalar_folder), ScalarHeadModel)
    files = {path.name for path in judge_folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", FILE} <= files
    assert not [path for path in judge_folder.parent.iterdir() if path.name.endswith(".draft")]


@pytest.mark.law(6)
def test_a_judge_scores_the_same_after_loading(
    judge_folder: Path, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    model = sharpened(copied(preset))
    before = JudgeModel(LocalBackend(renderer, Runner(model)), renderer.template)
    loaded = gram.load(judge_folder)
    assert isinstance(loaded, JudgeModel)
    assert loaded.template == load_template("compact")
    same(log_odds(loaded, pairs), log_odds(before, pairs))
    differ(log_odds(loaded, pairs)[1:], log_odds(before, pairs)[:-1])


@pytest.mark.law(6)
def test_a_likelihood_scores_the_same_after_loading(
    likelihood_folder: Path, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    model = sharpened(copied(preset))
    same(
        log_odds(gram.load(likelihood_folder), pairs),
        log_odds(LikelihoodModel(renderer, Runner(model)), pairs),
    )


@pytest.mark.law(6)
def test_a_scalar_scores_the_same_after_loading(
    scalar_folder: Path, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    model = sharpened(add_score_head(copy.deepcopy(preset), seed=1).model)
    before = ScalarHeadModel(renderer, Runner(model))
    same(log_odds(gram.load(scalar_folder), pairs), log_odds(before, pairs))


@pytest.mark.law(6)
def test_a_scalar_checkpoint_is_a_plain_classifier(
    scalar_folder: Path, renderer: Renderer, pairs: list[Pair]
) -> None:
    """Hugging Face alone gives the same scores: with our rendering, padded by the saved tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    prompts, responses = [pair.prompt for pair in pairs], [pair.a for pair in pairs]
    scores = gram.load(scalar_folder).score(prompts, responses)  # type: ignore[union-attr]
    model = AutoModelForSequenceClassification.from_pretrained(scalar_folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(scalar_folder)
    rows = [{"input_ids": item.ids} for item in renderer.answers(prompts, responses)]
    for side in ("left", "right"):
        tokenizer.padding_side = side
        batch = tokenizer.pad(rows, return_tensors="pt")
        with torch.inference_mode():
            plain = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, 0]
        same(scores, plain.numpy())


def test_raw_models_judge_and_score_zero_shot(raw_folder: Path, pairs: list[Pair]) -> None:
    """Without ``gram.json``: a judge in the default template, or a likelihood when asked for one."""
    judge = gram.load(raw_folder)
    assert isinstance(judge, JudgeModel)
    assert judge.template == load_template("default")
    assert np.isfinite(log_odds(judge, pairs)).all()
    likelihood = gram.load(raw_folder, kind="likelihood")
    assert isinstance(likelihood, LikelihoodModel)
    assert likelihood.score([as_chat("what ?")], ["old"])[0] < 0


def test_a_judge_is_a_likelihood_too(judge_folder: Path, likelihood_folder: Path, pairs: list[Pair]) -> None:
    """The two folders hold the same weights; any language model can be asked either way."""
    same(
        log_odds(gram.load(judge_folder, kind="likelihood"), pairs),
        log_odds(gram.load(likelihood_folder), pairs),
    )
    same(
        log_odds(gram.load(likelihood_folder, kind="judge"), pairs), log_odds(gram.load(judge_folder), pairs)
    )


def test_another_template(judge_folder: Path, tmp_path: Path, pairs: list[Pair]) -> None:
    """A trained judge may be asked in another template; the checkpoint's own is the default."""
    own = log_odds(gram.load(judge_folder), pairs)
    same(log_odds(gram.load(judge_folder, template="compact"), pairs), own)
    differ(log_odds(gram.load(judge_folder, template="default"), pairs), own)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(load_template("compact").to_json() | {"name": "mine"}), encoding="utf-8")
    same(log_odds(gram.load(judge_folder, template=path), pairs), own)


def test_settings_of_the_manifest_are_used(
    likelihood_folder: Path, tmp_path: Path, preset: LoadedModel, renderer: Renderer, pairs: list[Pair]
) -> None:
    """beta, length power, context and neutralise come from ``gram.json``; options win over them."""
    folder = tmp_path / "settings"
    shutil.copytree(likelihood_folder, folder)
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    content |= {"beta": 0.5, "length_power": 1.0, "context": "judge", "neutralise": False}
    (folder / FILE).write_text(json.dumps(content), encoding="utf-8")
    model = load_model(folder, "lm").model
    free = Renderer(preset.tokenizer, renderer.template, MAX_LENGTH, neutralise=False)
    hot = [*pairs, Pair("q", a="stop<|end|>", b="go")]
    runner = Runner(model)
    expected = LikelihoodModel(free, runner, context="judge", length_power=1.0, beta=0.5)
    same(log_odds(gram.load(folder), hot), log_odds(expected, hot))
    other = LikelihoodModel(free, runner, context="chat", length_power=0.0, beta=0.5)
    same(log_odds(gram.load(folder, context="chat", length_power=0.0), hot), log_odds(other, hot))
    safe = LikelihoodModel(renderer, runner, context="judge", length_power=1.0, beta=0.5)
    differ(log_odds(safe, hot)[-1:], log_odds(expected, hot)[-1:])


def test_reference_and_baseline_options(likelihood_folder: Path, raw_folder: Path, pairs: list[Pair]) -> None:
    """A model minus itself is nothing; minus its unconditional self it is something else than alone."""
    itself = gram.load(likelihood_folder, reference=raw_folder)
    same(log_odds(itself, pairs), np.zeros((len(pairs), 2)))
    alone = log_odds(gram.load(likelihood_folder), pairs)
    differ(log_odds(gram.load(likelihood_folder, baseline="unconditional"), pairs), alone)


def test_a_reference_with_a_shorter_context_limits_both(
    likelihood_folder: Path, preset: LoadedModel, tmp_path: Path
) -> None:
    config = config_of("gpt2", len(preset.tokenizer))
    config.n_positions = 40
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "short")
    preset.tokenizer.save_pretrained(tmp_path / "short")
    model = gram.load(likelihood_folder, reference=tmp_path / "short")
    model.compare([Pair("what ?", a="old " * 60, b="new")])
    assert model.usage.truncated == 1


def test_max_length_is_a_choice_up_to_what_the_model_reads(judge_folder: Path) -> None:
    long = Pair("what ?", a="old " * 100, b="new " * 100)
    for length, truncated in ((None, 0), (10_000, 0), (100, 2)):
        model = gram.load(judge_folder, max_length=length)
        model.compare([long])
        assert model.usage.truncated == truncated
    model = gram.load(judge_folder)
    model.compare([Pair("what ?", a="old " * 3_000, b="new")])  # more than the model's 1024
    assert model.usage.truncated == 2
    with pytest.raises(ConfigError, match="max_length"):
        gram.load(judge_folder, max_length=0)


def test_loaded_models_keep_quiet(
    scalar_folder: Path, judge_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in (scalar_folder, judge_folder):
        gram.load(folder)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


# Loading what is wrong


def fails(error: type[GramError], says: str, path: Path | str, **options: Any) -> None:
    with pytest.raises(error, match=says) as caught:
        gram.load(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_misplaced_paths(tmp_path: Path) -> None:
    fails(CheckpointError, "no such folder", tmp_path / "nowhere")
    fails(CheckpointError, "no such folder", "nowhere")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    fails(CheckpointError, "a model is a folder, this is a file", file)
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(CheckpointError, "no config.json", empty)


def test_a_name_that_is_not_to_be_had_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, something like a Hub name (or a mistyped relative path) must not wait for an answer."""
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    fails(CheckpointError, "no such folder, nor a model on the Hub", "nobody/no-such-model")
    assert not asked


def test_gram_json_alone(judge_folder: Path, tmp_path: Path) -> None:
    shutil.copy(judge_folder / FILE, tmp_path / FILE)
    fails(CheckpointError, r"no config.json in this folder \(gram.json alone is not a model\)", tmp_path)


def test_truncated_weights(judge_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(judge_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    fails(CheckpointError, "cannot be loaded as a model", folder)
    weights.unlink()
    fails(CheckpointError, "cannot be loaded as a model", folder)


def test_missing_weights(judge_folder: Path, tmp_path: Path) -> None:
    """transformers would draw them at random, and only warn."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(judge_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if "layers.1.mlp" in name]:
        del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fails(CheckpointError, "lack 3 weights, such as model.layers.1.mlp", folder)


def test_broken_config_and_tokenizer(judge_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        folder = tmp_path / name
        shutil.copytree(judge_folder, folder)
        (folder / name).write_text("{", encoding="utf-8")
        fails(CheckpointError, "cannot be loaded as a model", folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"format": 1'])
def test_a_broken_gram_json(text: str, judge_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(judge_folder, folder)
    (folder / FILE).write_text(text, encoding="utf-8")
    fails(CheckpointError, f"{FILE}: not", folder)


WRONG_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a later format": ({"format": 3}, "format 3; this version of gram reads 1 and 2"),
    "no format": ({"format": None}, "format None"),
    "an unknown kind": ({"kind": "ranker"}, "'kind' is 'ranker'"),
    "no kind": ({"kind": None}, r"missing fields \['kind'\]"),
    "an unknown context": ({"context": "prompt"}, "'context' is 'prompt'"),
    "a length in words": ({"max_length": "long"}, "'max_length' has the wrong type"),
    "labels that are no list": ({"label_ids": "AB"}, "'label_ids' has the wrong type"),
    "a template that is text": ({"template": "compact"}, "'template' has the wrong type"),
    "other label ids": ({"label_ids": [5, 6]}, r"trained with label ids \[5, 6\]"),
    "another hash": ({"template_hash": "0" * 16}, "does not match its hash; it was edited"),
}


@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_wrong_fields_of_gram_json(case: str, altered: Callable[..., Path]) -> None:
    fields, says = WRONG_FIELDS[case]
    fails(CheckpointError, says, altered(**fields))


def test_an_edited_template(altered: Callable[..., Path]) -> None:
    """One more word in the text, and every verdict would be another."""
    template = load_template("compact").to_json()
    edited = altered(template=template | {"text": f"Now {template['text']}"})
    fails(CheckpointError, "does not match its hash", edited)
    assert isinstance(gram.load(edited, template="default"), JudgeModel)  # asked otherwise, it is not used


def test_a_template_in_gram_json_without_labels(altered: Callable[..., Path]) -> None:
    fails(TemplateError, "'labels' is missing", altered(template={"name": "x", "text": "{prompt}{a}{b}"}))


def test_kinds_that_do_not_fit(
    judge_folder: Path, likelihood_folder: Path, scalar_folder: Path, raw_folder: Path, tmp_path: Path
) -> None:
    """No head is ever drawn at random for scoring, with ``gram.json`` or without."""
    for folder in (judge_folder, likelihood_folder, raw_folder):
        fails(CheckpointError, "no trained scalar head", folder, kind="scalar")
    bare = tmp_path / "scalar"
    shutil.copytree(scalar_folder, bare)
    (bare / FILE).unlink()
    for folder in (scalar_folder, bare):
        for kind in ("judge", "likelihood"):
            fails(CheckpointError, "load it as kind 'scalar'", folder, kind=kind)
    assert isinstance(gram.load(bare, kind="scalar"), ScalarHeadModel)


def test_a_tokenizer_larger_than_the_embedding(
    judge_folder: Path, preset: LoadedModel, tmp_path: Path
) -> None:
    folder = tmp_path / "larger"
    shutil.copytree(judge_folder, folder)
    tokenizer = copy.deepcopy(preset.tokenizer)
    tokenizer.add_tokens(["brandnew"])
    tokenizer.save_pretrained(folder)
    fails(CheckpointError, "the tokenizer has 401 tokens, the model embeds 400", folder)


def test_options_that_make_no_sense(judge_folder: Path, likelihood_folder: Path, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"kind": "ranker"}, "kind must be one of judge, likelihood, scalar"),
        ({"device": "gpu"}, "device must be cpu or cuda"),
        ({"length_power": 1.0}, "are for likelihoods, and this is a judge"),
        ({"reference": likelihood_folder}, "are for likelihoods, and this is a judge"),
        ({"kind": "likelihood", "baseline": "mean"}, "baseline must be"),
        ({"kind": "likelihood", "context": "prompt"}, "context must be"),
    ]
    for options, says in wrong:
        with pytest.raises(ConfigError, match=says):
            gram.load(judge_folder, **options)
    other = build_preset("preset:tiny", ["quite another text"], seed=0, vocab_size=300)
    other.model.save_pretrained(tmp_path / "other")
    other.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="its vocabulary differs"):
        gram.load(likelihood_folder, reference=tmp_path / "other")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            choose_device("cuda")


# Saving


def save(folder: Path, kind: Any, model: Any, loaded: LoadedModel, renderer: Renderer) -> Path:
    save_checkpoint(folder, model, loaded.tokenizer, make_manifest(kind, renderer))
    return folder


def test_manifest_round_trip(tmp_path: Path, renderer: Renderer) -> None:
    manifest = Manifest(
        kind="judge",
        template=renderer.template.to_json(),
        template_hash=renderer.template.hash,
        max_length=7,
        label_ids=[1, 2],
        evaluation={"accuracy": 0.5, "name": "ü🙂"},
        versions=library_versions(),
    )
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path / "elsewhere") is None
    assert set(manifest.versions) == {"gram", "python", "torch", "transformers"}


@pytest.mark.law(6)
def test_merged_adapters_score_as_the_adapted_model(
    preset: LoadedModel, renderer: Renderer, tmp_path: Path, pairs: list[Pair]
) -> None:
    base = sharpened(copied(preset))
    bare = JudgeModel(LocalBackend(renderer, Runner(base)), renderer.template)
    before = log_odds(bare, pairs)
    model = _moved(add_lora(base, LoraSettings(rank=4), score_head=False))
    adapted = JudgeModel(LocalBackend(renderer, Runner(model)), renderer.template)
    wanted = log_odds(adapted, pairs)
    differ(wanted, before)
    same(log_odds(gram.load(save(tmp_path / "lora", "judge", model, preset, renderer)), pairs), wanted)
    assert "adapter_config.json" not in {path.name for path in (tmp_path / "lora").iterdir()}


def test_merged_adapters_and_head_of_a_scalar_model(
    preset: LoadedModel, renderer: Renderer, tmp_path: Path, pairs: list[Pair]
) -> None:
    loaded = add_score_head(copy.deepcopy(preset), seed=1)
    before = log_odds(ScalarHeadModel(renderer, Runner(sharpened(loaded.model))), pairs)
    model = _moved(add_lora(loaded.model, LoraSettings(rank=4), score_head=True))
    wanted = log_odds(ScalarHeadModel(renderer, Runner(model)), pairs)
    differ(wanted, before)
    folder = save(tmp_path / "lora", "scalar", model, loaded, renderer)
    same(log_odds(gram.load(folder), pairs), wanted)


def _moved(model: Any) -> Any:
    """``model`` after a step in a random direction in all that may train."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def test_a_frozen_tied_head_is_untied_and_stays_so(
    preset: LoadedModel, renderer: Renderer, tmp_path: Path, pairs: list[Pair]
) -> None:
    """Training the head must leave the embedding alone, in memory and after loading."""
    model = copied(preset)
    embedding = weight(model.get_input_embeddings()).clone()
    freeze(model)
    _moved(model)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    judge = JudgeModel(LocalBackend(renderer, Runner(model)), renderer.template)
    wanted = log_odds(judge, pairs)
    folder = save(tmp_path / "head", "judge", model, preset, renderer)
    same(log_odds(gram.load(folder), pairs), wanted)
    again: Any = load_model(folder, "lm").model
    assert torch.equal(again.get_input_embeddings().weight, embedding)
    assert not torch.equal(again.get_output_embeddings().weight, embedding)
    model.tie_weights()  # trainers and loaders call this
    assert not torch.equal(model.get_output_embeddings().weight, embedding)


def test_saving_over_a_checkpoint_and_over_a_broken_draft(
    preset: LoadedModel, renderer: Renderer, tmp_path: Path, pairs: list[Pair]
) -> None:
    """The folder is then the new checkpoint; what an earlier kill left behind is gone."""
    folder = tmp_path / "model"
    for name in ("model.draft", ".model.gram.draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left-over").write_text("x", encoding="utf-8")
    save(folder, "judge", copied(preset), preset, renderer)
    first = log_odds(gram.load(folder), pairs)
    save(folder, "judge", sharpened(copied(preset)), preset, renderer)
    differ(log_odds(gram.load(folder), pairs), first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.draft"], "one is not ours"
    assert not (folder / "left-over").exists()


def test_a_save_that_is_cut_off_leaves_no_finished_checkpoint(
    preset: LoadedModel, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``gram.json`` means finished: an interrupted save must not keep the older one's."""
    real = Path.replace
    old = save(tmp_path / "old", "judge", copied(preset), preset, renderer)
    files = {path.name for path in old.iterdir()}
    assert len(files) == 7
    moved: list[str] = []
    for allowed in range(len(files)):
        folder = tmp_path / f"killed after {allowed}"
        shutil.copytree(old, folder)
        moved = []

        def fails_midway(
            self: Path, target: Path, moved: list[str] = moved, allowed: int = allowed, folder: Path = folder
        ) -> Path:
            if target.parent == folder:
                if len(moved) == allowed:
                    raise OSError("killed")
                moved.append(self.name)
            return real(self, target)

        with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
            patch.setattr(Path, "replace", fails_midway)
            save(folder, "judge", copied(preset), preset, renderer)
        assert not (folder / FILE).exists()
    assert set(moved) == files - {FILE}


# Pooling


def test_pad_that_is_also_the_end_token(
    preset: LoadedModel, renderer: Renderer, pairs: list[Pair], tmp_path: Path
) -> None:
    """Ours is read at the end token, not before it, padded left or right or not at all; another's, whose
    padding ends an answer too, at the token before it, as transformers reads it and it was trained.
    """
    tokenizer = copy.deepcopy(preset.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    body = LoadedModel(sharpened(copied(preset)), tokenizer, None)
    loaded = add_score_head(body, seed=2)
    model: Any = loaded.model
    end = tokenizer.get_vocab()["<|end|>"]
    assert model.config.pad_token_id != end
    assert tokenizer.pad_token_id == model.config.pad_token_id
    items = renderer.answers([pair.prompt for pair in pairs], [pair.a for pair in pairs])
    assert all(item.ids[-1] == end for item in items)
    with torch.inference_mode():
        hidden = [model.base_model(torch.tensor([item.ids]))[0][0] for item in items]
        wanted = torch.stack([model.score(states[-1])[0] for states in hidden]).numpy()
        early = torch.stack([model.score(states[-2])[0] for states in hidden]).numpy()
        same(Runner(model).scores([TokenRow(item.ids) for item in items]), wanted)
        differ(wanted, early)
        for side in ("left", "right"):  # a plain Hugging Face caller
            tokenizer.padding_side = side
            batch = tokenizer.pad([{"input_ids": item.ids} for item in items], return_tensors="pt")
            same(model(**{name: batch[name] for name in batch}).logits[:, 0].numpy(), wanted)
        model.config.pad_token_id = end  # as Hugging Face would have it: the reason for all this
        same(model(input_ids=torch.tensor([items[0].ids])).logits[:, 0].numpy(), early[:1])
    tokenizer.pad_token = tokenizer.eos_token
    model.save_pretrained(tmp_path)  # another's reward model, saved so
    tokenizer.save_pretrained(tmp_path)
    prompts, responses = [pair.prompt for pair in pairs], [pair.a for pair in pairs]
    theirs = gram.load(tmp_path, kind="scalar")
    assert isinstance(theirs, ScalarHeadModel)
    same(theirs.score(prompts, responses), early)


def test_no_token_to_pad_with(tmp_path: Path) -> None:
    """As with GPT-2: no token is the padding, in memory; on disk none is named."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<|end|>": 0, "a": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>")
    model = copy.deepcopy(classifier("llama", 60))
    set_pooling_pad(model, tokenizer)
    assert model.config.pad_token_id == -1
    save_whole(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] is None
    assert model.config.pad_token_id == -1


# What may train


def trainable(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gemma", "bloom"])
def test_freeze_leaves_head_and_last_layers(architecture: str) -> None:
    """llama, gpt2, gemma and bloom tie their head, qwen2 here does not; two layers each."""
    for last in (0, 1, 2):
        model: Any = copy.deepcopy(causal(architecture, 60))
        before = model.get_input_embeddings().weight.detach().clone()
        freeze(model, last)
        names = trainable(model)
        assert "lm_head.weight" in names
        rest = names - {"lm_head.weight"}
        blocks = "transformer.h" if architecture in ("gpt2", "bloom") else "model.layers"
        wanted = {
            name
            for name, _ in model.named_parameters()
            if any(name.startswith(f"{blocks}.{place}.") for place in range(2 - last, 2))
        }
        assert rest == wanted
        assert bool(rest) == (last > 0)
        model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
        assert model.get_input_embeddings().weight.grad is None
        assert torch.equal(model.get_input_embeddings().weight, before)
        assert not model.config.tie_word_embeddings


def test_freeze_a_scalar_model() -> None:
    model = copy.deepcopy(classifier("llama", 60))
    freeze(model)
    assert trainable(model) == {"score.weight"}
    with pytest.raises(ConfigError, match="cannot unfreeze 3 layers: the model has 2"):
        freeze(model, 3)
    with pytest.raises(ConfigError, match="cannot unfreeze -1 layers"):
        freeze(model, -1)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma"])
def test_lora_leaves_only_adapters(architecture: str) -> None:
    """Two small matrices beside every linear layer of the body; head and embedding stay frozen."""
    model = add_lora(copy.deepcopy(causal(architecture, 60)), LoraSettings(rank=2), score_head=False)
    names = trainable(model)
    assert names
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert not any("lm_head" in name or "embed" in name or "wte" in name for name in names)
    per_layer = {"llama": 7, "gemma": 7, "gpt2": 4}[architecture]
    assert len(names) == 2 * per_layer * 2  # layers, A and B
    plain = merged(model)
    assert not any("lora" in name for name, _ in plain.named_parameters())


def test_lora_on_a_scalar_model_trains_its_head() -> None:
    model = add_lora(copy.deepcopy(classifier("llama", 60)), LoraSettings(rank=2), score_head=True)
    names = trainable(model)
    heads = {name for name in names if "lora" not in name}
    assert len(heads) == 1 and next(iter(heads)).endswith("score.modules_to_save.default.weight")
    assert len(names) == 1 + 2 * 7 * 2


def test_merged_of_a_plain_model_is_itself() -> None:
    model = causal("llama", 60)
    assert merged(model) is model


# Presets


def test_presets_are_drawn_from_their_seed(texts: list[str], preset: LoadedModel) -> None:
    """Same texts and seed: same tokenizer and weights, whatever torch's generator did before."""
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = build_preset("preset:tiny", texts, seed=0, vocab_size=400)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.tokenizer.get_vocab() == preset.tokenizer.get_vocab()
    weights = preset.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())
    other = build_preset("preset:tiny", texts, seed=1, vocab_size=400)
    embedding = weight(other.model.get_input_embeddings())
    assert not torch.equal(embedding, weights["model.embed_tokens.weight"])
    assert preset.context == PRESETS["tiny"].context == 1024
    assert len(preset.tokenizer) == 400


def test_a_preset_tokenizer_writes_anything(preset: LoadedModel) -> None:
    """Nothing is out of its vocabulary, and text comes back as it was."""
    text = "Ünïcode 🙂 日本語 \n\t  two  spaces \u200b"
    assert preset.tokenizer.decode(preset.tokenizer(text)["input_ids"]) == text


def test_model_source(texts: list[str], raw_folder: Path) -> None:
    """A preset is built, a folder loaded; a head drawn from the seed is the same each time."""

    def source(reference: str, head: Any) -> LoadedModel:
        return model_source(reference, lambda: texts, seed=5, head=head, vocab_size=400, device="cpu")

    for reference in ("preset:tiny", str(raw_folder)):
        assert type(source(reference, "lm").model).__name__ == "LlamaForCausalLM"
        scorers: list[Any] = [source(reference, "score").model for _ in range(2)]
        heads = [weight(scorer.score) for scorer in scorers]
        assert heads[0].shape == (1, 128)
        assert torch.equal(heads[0], heads[1])
    with pytest.raises(ConfigError, match="no preset 'huge'; there are: tiny"):
        source("preset:huge", "lm")


def test_a_score_head_leaves_the_language_model_alone(preset: LoadedModel) -> None:
    loaded = copy.deepcopy(preset)
    scorer = add_score_head(loaded, seed=1)
    theirs: Any = loaded.model.base_model
    ours: Any = scorer.model.base_model
    weights = theirs.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in ours.state_dict().items())
    with torch.no_grad():
        weight(ours.embed_tokens).zero_()
    assert weight(theirs.embed_tokens).abs().sum() > 0


def test_a_manifest_is_written_whole_or_not_at_all(judge_folder: Path, tmp_path: Path) -> None:
    """A disk that is full is here a limit of 64 bytes to a file."""
    folder = shutil.copytree(judge_folder, tmp_path / "judge")
    manifest = read_manifest(folder)
    assert manifest is not None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            manifest.write(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_manifest(folder) == manifest


def test_a_new_checkpoint_appears_in_one_step(
    judge_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before: nothing of that name; the next attempt succeeds."""
    manifest = read_manifest(judge_folder)
    assert manifest is not None
    moved = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if self.name == ".copy.gram.draft":
            raise KeyboardInterrupt
        return moved(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        copy_checkpoint(judge_folder, tmp_path / "copy", manifest, {})
    assert not (tmp_path / "copy").exists()
    copy_checkpoint(judge_folder, tmp_path / "copy", manifest, {})
    assert read_manifest(tmp_path / "copy") == manifest

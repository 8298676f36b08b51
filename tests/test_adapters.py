"""Adapters are models: a PEFT folder is scored as peft scores it, whoever wrote it and whatever its kind.

The right value is peft's own: its model's forward pass on the tokens of our prompts, one row at a time.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import gram
from conftest import make_preferences, run
from gram.errors import CheckpointError, ConfigError
from gram.modeling.digests import content_of
from gram.modeling.loading import LoadedModel, load_model
from gram.rendering import Renderer, load_template
from gram.scoring.scalar import LikelihoodModel
from gram.types import as_chat
from small_models import causal

PROMPTS = [as_chat("what is the bread of the garden ?"), as_chat("why ?"), as_chat("name a color")]
ANSWERS = ["quiet and old", "because it is so . " * 9, "blue"]


@pytest.fixture(scope="module")
def lm_base(preset: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose output layer is not its embedding, as others save it."""
    return saved(causal("qwen2", len(preset.tokenizer)), preset, tmp_path_factory.mktemp("base") / "lm")


def saved(model: Any, preset: LoadedModel, folder: Path) -> Path:
    model = copy.deepcopy(model)
    model.save_pretrained(folder)
    preset.tokenizer.save_pretrained(folder)
    return folder


def moved(model: Any, seed: int = 3) -> Any:
    """``model`` after a step in a random direction in all that may train."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def with_adapter(base: Path, folder: Path, config: peft.PeftConfig, *, tokens: int | None = None) -> Any:
    """A PEFT folder as a script of others writes it, and the model in memory as peft has it."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForCausalLM
    options: dict[str, Any] = {}
    if config.task_type == "SEQ_CLS":
        auto, options = AutoModelForSequenceClassification, {"num_labels": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = auto.from_pretrained(base, **options)
        if tokens:
            model.resize_token_embeddings(tokens)
        wrapped = moved(peft.get_peft_model(model, config))
    wrapped.save_pretrained(folder)
    return wrapped


def by_peft(wrapped: Any, renderer: Renderer, kind: str) -> list[float]:
    """Scores of the answers: the score at the last token, or the sum of the answer's log-probabilities."""
    scores = []
    for item in renderer.answers(PROMPTS, ANSWERS):
        with torch.no_grad():
            logits = wrapped(input_ids=torch.tensor([item.ids])).logits[0]
        if kind == "scalar":
            scores.append(float(logits[0]))
            continue
        start, stop = item.scored("a")
        logprobs = logits.log_softmax(-1)[start - 1 : stop - 1]
        scores.append(sum(float(logprobs[k, item.ids[start + k]]) for k in range(stop - start)))
    return scores


def likelihoods(folder: Path, **options: Any) -> Any:
    """(n,) scores of the answers by our likelihood model."""
    model = gram.load(folder, "likelihood", device="cpu", **options)
    assert isinstance(model, LikelihoodModel)
    return model.score(PROMPTS, ANSWERS)


def plain_renderer(tokenizer: Any, *, whole: bool = False) -> Renderer:
    return Renderer(tokenizer, load_template(None), 1024, whole=whole)


LORA: dict[str, Any] = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "init_lora_weights": False}
KINDS: dict[str, peft.PeftConfig] = {
    "lora": peft.LoraConfig(**LORA, task_type="CAUSAL_LM"),
    "dora": peft.LoraConfig(**LORA, use_dora=True, task_type="CAUSAL_LM"),
    "rank-stabilised": peft.LoraConfig(**LORA, use_rslora=True, task_type="CAUSAL_LM"),
    "without a task": peft.LoraConfig(**LORA),
    "embeddings too": peft.LoraConfig(
        r=4, target_modules=["q_proj", "embed_tokens", "lm_head"], init_lora_weights=False
    ),
    "whole layers": peft.LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
    ),
    "tokens": peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=list(range(2, 200))),
    "ia3": peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    ),
    "loha": peft.LoHaConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_peft(kind: str, tied: bool, preset: LoadedModel, tmp_path: Path) -> None:
    """One adapter of each kind on one base, both with an output layer of its own and with a tied one."""
    base = saved(causal("llama" if tied else "qwen2", len(preset.tokenizer)), preset, tmp_path / "base")
    wrapped = with_adapter(base, tmp_path / "adapter", copy.deepcopy(KINDS[kind]))
    wanted = by_peft(wrapped, plain_renderer(preset.tokenizer), "likelihood")
    np.testing.assert_allclose(likelihoods(tmp_path / "adapter"), wanted, rtol=1e-5, atol=1e-5)
    plain = likelihoods(base)
    assert np.abs(plain - wanted).max() > 1e-3


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_added_for_the_adapter(tied: bool, preset: LoadedModel, tmp_path: Path) -> None:
    """The base is given their embeddings; the adapter's tokenizer, which has them, wins over the base's."""
    base = saved(causal("llama" if tied else "qwen2", len(preset.tokenizer)), preset, tmp_path / "base")
    tokenizer: Any = copy.deepcopy(preset.tokenizer)
    tokenizer.add_tokens(["blue", "quiet"])
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"], task_type="CAUSAL_LM"
    )
    wrapped = with_adapter(base, tmp_path / "adapter", config, tokens=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "adapter")
    wanted = by_peft(wrapped, plain_renderer(tokenizer), "likelihood")
    np.testing.assert_allclose(likelihoods(tmp_path / "adapter"), wanted, rtol=1e-5, atol=1e-5)


SEQ_CLS = peft.LoraConfig(**LORA, task_type="SEQ_CLS")


def last_token_scores(wrapped: Any, tokenizer: Any) -> list[float]:
    """A classifier's scores as its owner reads them: the chat template, then the whole text, row by row."""
    scores = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        text = tokenizer.apply_chat_template(
            [*turns, {"role": "assistant", "content": answer}], tokenize=False
        )
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            scores.append(float(wrapped(input_ids=ids).logits[0, 0]))
    return scores


def rows_file(path: Path) -> Path:
    rows = [
        {"prompt": prompt[0].content, "response": answer}
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs_file(path: Path) -> Path:
    rows = [
        {"prompt": item.pair.prompt[0].content, "chosen": item.pair.a, "rejected": item.pair.b}
        for item in make_preferences(16)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_gram_score_of_a_scalar_adapter(
    lm_base: Path, preset: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a tokenizer of its own, on a language model, whose padding counts (TRL's folders bring one:
    ``test_parity_trl.py``).
    """
    wrapped = with_adapter(lm_base, tmp_path / "adapter", copy.deepcopy(SEQ_CLS))
    wanted = last_token_scores(wrapped, preset.tokenizer)
    command = ["--model", tmp_path / "adapter", "--kind", "scalar", "--device", "cpu"]
    rows = rows_file(tmp_path / "rows.jsonl")
    code, _, _ = run(capsys, "score", *command, "--input", rows, "--output", tmp_path / "out.jsonl")
    assert code == 0
    scores = [row["score"] for row in read(tmp_path / "out.jsonl")]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert max(wanted) - min(wanted) > 0.01
    code, _, err = run(capsys, "score", *command[:2], "--input", rows, "--output", tmp_path / "judged.jsonl")
    assert code == 1 and "load it as kind 'scalar'" in err


def test_gram_score_of_a_judge_adapter(
    lm_base: Path, preset: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Log-odds of the two labels: the difference of peft's own logits at the end of the judge prompt."""
    wrapped = with_adapter(lm_base, tmp_path / "adapter", copy.deepcopy(KINDS["lora"]))
    rows = pairs_file(tmp_path / "rows.jsonl")
    code, _, _ = run(
        capsys, "score", "--model", tmp_path / "adapter", "--template", "compact", "--device", "cpu",
        "--input", rows, "--output", tmp_path / "out.jsonl",
    )  # fmt: skip
    assert code == 0
    renderer = Renderer(preset.tokenizer, load_template("compact"), 1024)
    first, second = renderer.label_ids
    for row, preference in zip(read(tmp_path / "out.jsonl"), read(rows), strict=True):
        for order, odds in enumerate(row["log_odds"]):
            answers = [preference["chosen"], preference["rejected"]]
            a, b = answers[:: -1 if order else 1]
            [item] = renderer.judge([gram.Pair(preference["prompt"], a=a, b=b)])
            with torch.no_grad():
                logits = wrapped(input_ids=torch.tensor([item.ids])).logits[0, -1]
            wanted = float(logits[first] - logits[second]) * (-1 if order else 1)
            assert odds == pytest.approx(wanted, abs=1e-5)


def test_a_kind_of_adapter_that_changes_the_prompt_is_refused(lm_base: Path, tmp_path: Path) -> None:
    for number, config in enumerate(
        (
            peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
            peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        )
    ):
        with_adapter(lm_base, tmp_path / str(number), config)
        with pytest.raises(CheckpointError, match="changes what the model reads"):
            gram.load(tmp_path / str(number), device="cpu")


def test_where_the_base_is(lm_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone: the error names it and the option. Then: by --base, by a path from here, and from the adapter."""
    base = tmp_path / "models" / "base"
    shutil.copytree(lm_base, base)
    adapter = tmp_path / "models" / "adapter"
    with_adapter(base, adapter, copy.deepcopy(KINDS["lora"]))
    scores = likelihoods(adapter)
    moved_base = base.rename(tmp_path / "models" / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"its base model is not there: {base}: .*--base") as caught:
        gram.load(adapter, device="cpu")
    assert str(adapter) in str(caught.value)
    np.testing.assert_array_equal(likelihoods(adapter, base=moved_base), scores)
    config = json.loads((adapter / "adapter_config.json").read_text())
    monkeypatch.chdir(tmp_path)
    for name in ("models/elsewhere", "../elsewhere"):
        config["base_model_name_or_path"] = name
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        found = likelihoods(adapter)
        np.testing.assert_array_equal(found, scores)
    for name in (None, "", 7):
        config["base_model_name_or_path"] = name
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="base"):
            gram.load(adapter, device="cpu")
    with pytest.raises(ConfigError, match="is a whole model; only adapters have a base"):
        gram.load(lm_base, device="cpu", base=lm_base)


def test_a_base_that_does_not_fit(lm_base: Path, preset: LoadedModel, tmp_path: Path) -> None:
    """Of another shape, with fewer layers, or another architecture: never the scores of half an adapter."""
    adapter = tmp_path / "adapter"
    with_adapter(lm_base, adapter, copy.deepcopy(KINDS["lora"]))
    other = saved(causal("gpt2", len(preset.tokenizer)), preset, tmp_path / "other")
    wide = saved(preset.model, preset, tmp_path / "wide")
    short = saved(causal("qwen2", len(preset.tokenizer)), preset, tmp_path / "short")
    model = load_model(short, "lm").model
    model.model.layers = model.model.layers[:1]  # type: ignore[operator, union-attr, index]
    model.config.num_hidden_layers = 1
    model.config.layer_types = model.config.layer_types[:1]
    model.save_pretrained(short)
    for base in (other, wide, short):
        with pytest.raises(CheckpointError, match=r"does not fit it.*--base"):
            gram.load(adapter, device="cpu", base=base)


def test_damaged_adapters(lm_base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    with_adapter(lm_base, adapter, copy.deepcopy(KINDS["lora"]))

    def says(match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            gram.load(adapter, device="cpu")
        assert str(adapter) in str(caught.value)

    config = json.loads((adapter / "adapter_config.json").read_text())
    wrong: list[tuple[Any, str]] = [
        (config | {"peft_type": "MAGIC"}, "peft_type 'MAGIC'"),
        (config | {"peft_type": ["LORA"]}, "field 'peft_type' has the wrong type"),
        (config | {"r": "four"}, "does not fit"),
        (config | {"target_modules": ["q_proj"]}, "does not fit"),
        (config | {"megatron_config": {"x": 1}, "megatron_core": "antigravity"}, "Megatron"),
    ]
    for content, match in wrong:
        (adapter / "adapter_config.json").write_text(json.dumps(content))
        says(match)
    (adapter / "adapter_config.json").write_text("[" * 100_000)
    says("nested too deep")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    weights = adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    says("cannot be loaded as an adapter")
    weights.unlink()
    says("an adapter without weights")


def test_a_whole_model_and_an_adapter_in_one_folder_are_two_models(lm_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(lm_base, folder)
    with_adapter(lm_base, folder, copy.deepcopy(KINDS["lora"]))
    with pytest.raises(CheckpointError, match="a whole model and an adapter"):
        gram.load(folder, device="cpu")


def test_an_adapter_on_the_hub_is_read_from_its_files(
    lm_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the revision that the name gives; only the adapter's own files are fetched."""
    import huggingface_hub
    from transformers.utils import peft_utils

    adapter = tmp_path / "snapshot"
    with_adapter(lm_base, adapter, copy.deepcopy(KINDS["lora"]))
    asked: list[Any] = []

    def find(name: str, *, revision: str | None = None) -> str | None:
        asked.append((name, revision))
        return str(adapter / "adapter_config.json") if name == "owner/adapter" else None

    monkeypatch.setattr(peft_utils, "find_adapter_config_file", find)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(adapter))
    scores = gram.load("owner/adapter@v2", "likelihood", device="cpu", base=lm_base)
    assert isinstance(scores, LikelihoodModel)
    np.testing.assert_array_equal(scores.score(PROMPTS, ANSWERS), likelihoods(adapter))
    assert asked[0] == ("owner/adapter", "v2")


def test_another_base_is_another_content(lm_base: Path, tmp_path: Path) -> None:
    """A run is not continued on another base: its fingerprint holds the content of the base."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(lm_base, base)
    with_adapter(base, adapter, copy.deepcopy(KINDS["lora"]))
    before = content_of(str(adapter))
    assert before == content_of(str(adapter), base=str(lm_base))  # a copy of the base is the same base
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert content_of(str(adapter)) != before

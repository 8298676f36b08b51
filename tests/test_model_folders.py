"""A model folder says what is wrong with it: lost files, odd fields and weights, other heads, own code."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import gram
from conftest import make_manifest, make_preferences, run
from gram.adaptation.record import REPORT
from gram.errors import CheckpointError
from gram.modeling.digests import deciding_files
from gram.modeling.loading import LoadedModel, load_model
from gram.modeling.manifest import FILE, read_manifest
from gram.modeling.saving import copy_checkpoint, save_checkpoint
from gram.rendering import Renderer
from gram.training.folder import SETTINGS
from small_models import causal, classifier
from small_tokenizers import CHATML, byte_level

PAIRS = [item.pair for item in make_preferences(3)]


@pytest.fixture
def folder(judge_folder: Path, tmp_path: Path) -> Path:
    """A copy of a judge, to be damaged."""
    shutil.copytree(judge_folder, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def raw(folder: Path) -> Path:
    """The same without ``gram.json``, as others publish models."""
    (folder / FILE).unlink()
    return folder


def refused(folder: Path, says: str, kind: Any = None) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        gram.load(folder, kind, device="cpu")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- What a folder was saved with ---


def test_the_manifest_names_what_decides_the_scores(folder: Path) -> None:
    """And no more: what a README says changes no score."""
    manifest = read_manifest(folder)
    assert manifest is not None and manifest.files == deciding_files(folder)
    wanted = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert set(manifest.files) == {*wanted, "chat_template.jinja"}


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_lost_file_is_an_error(name: str, folder: Path) -> None:
    (folder / name).unlink()
    refused(folder, f"it was saved with {name}")
    manifest = json.loads((folder / FILE).read_text())
    del manifest["files"][name]
    edit(folder / FILE, files=manifest["files"])
    gram.load(folder, device="cpu")  # as the message says


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "chat_template.jinja").open("a").write("x"), "chat_template.jinja changed"),
        (lambda folder: (folder / "merges.txt").write_text("a b"), "merges.txt came new"),
        (lambda folder: edit(folder / "config.json", rms_norm_eps=0.1), "config.json changed"),
        (
            lambda folder: change_weights(folder, lambda weights: weights["model.norm.weight"].mul_(2)),
            "model.safetensors changed",
        ),
    ],
)
def test_a_changed_file_is_told_once(change: Callable[[Path], object], says: str, folder: Path) -> None:
    change(folder)
    with pytest.warns(UserWarning, match=says) as told:
        gram.load(folder, device="cpu")
    assert len([warning for warning in told if "not as it was saved" in str(warning.message)]) == 1


def test_what_changes_no_score_is_not_told(folder: Path) -> None:
    """Another layout of config.json, another version in it, a README, a temperature; and no record at all."""
    content = json.loads((folder / "config.json").read_text()) | {"transformers_version": "9.9"}
    (folder / "config.json").write_text(json.dumps(dict(reversed(content.items()))))
    (folder / "README.md").write_text("about it")
    edit(folder / FILE, calibration={"temperature": 2.0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gram.load(folder, device="cpu")
        edit(folder / FILE, files={})
        (folder / "chat_template.jinja").unlink()
        gram.load(folder, device="cpu")  # as of an earlier version: nothing is compared


@pytest.mark.parametrize("trace", [SETTINGS, REPORT])
def test_a_lost_manifest_is_told_where_a_trace_of_ours_is_left(trace: str, raw: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gram.load(raw, device="cpu")  # a raw model like any other
    (raw / trace).write_text("{}")
    with pytest.warns(UserWarning, match=rf"has {trace} of gram and no gram\.json"):
        gram.load(raw, device="cpu")


def test_savers_write_it(preset: LoadedModel, renderer: Renderer, folder: Path, tmp_path: Path) -> None:
    """Saved over an older model: its own files; copied: what the original was saved with, changed or not."""
    old = read_manifest(folder)
    assert old is not None
    save_checkpoint(tmp_path / "new", preset.model, preset.tokenizer, old)
    again = read_manifest(tmp_path / "new")
    assert again is not None and again.files == deciding_files(tmp_path / "new") != old.files
    (folder / "chat_template.jinja").open("a").write("x")
    copy_checkpoint(folder, tmp_path / "copy", old, {})
    with pytest.warns(UserWarning, match="chat_template.jinja changed"):
        gram.load(tmp_path / "copy", device="cpu")
    other = make_manifest("judge", renderer)
    copy_checkpoint(folder, tmp_path / "named", other, {})
    named = read_manifest(tmp_path / "named")
    assert named is not None and named.files == deciding_files(tmp_path / "named")


def test_the_same_weights_in_other_shards_are_told_and_score(folder: Path) -> None:
    wanted = gram.load(folder, device="cpu").compare(PAIRS).log_odds
    model = load_model(folder, "lm").model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="400KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    with pytest.warns(
        UserWarning, match=r"model\.safetensors\.index\.json came new|model\.safetensors changed"
    ):
        np.testing.assert_array_equal(gram.load(folder, device="cpu").compare(PAIRS).log_odds, wanted)


# --- Weights that do not belong ---


def test_fewer_layers_than_weights(raw: Path) -> None:
    edit(raw / "config.json", num_hidden_layers=2)
    refused(raw, r"config.json says 2 layers, and the files hold model\.layers\.2\.")


def test_biases_that_config_json_switches_off(preset: LoadedModel, tmp_path: Path) -> None:
    model = copy.deepcopy(causal("mha", len(preset.tokenizer)))
    model.save_pretrained(tmp_path)
    preset.tokenizer.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", attention_bias=False)
    refused(tmp_path, r"hold model\.layers\.0\.self_attn\.k_proj\.bias, for which")


def test_weights_beside_the_body_are_told(raw: Path) -> None:
    wanted = gram.load(raw, device="cpu").compare(PAIRS).log_odds
    change_weights(raw, lambda weights: weights.update({"vision_tower.weight": torch.ones(2, 2)}))
    with pytest.warns(UserWarning, match=r"1 weights of its files .* such as vision_tower\.weight"):
        np.testing.assert_array_equal(gram.load(raw, device="cpu").compare(PAIRS).log_odds, wanted)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["judge", "scalar"])
def test_weights_that_are_no_numbers(kind: str, value: float, raw: Path, scalar_folder: Path) -> None:
    if kind == "scalar":
        shutil.copytree(scalar_folder, raw, dirs_exist_ok=True)
    name = "model.layers.1.mlp.down_proj.weight"
    change_weights(raw, lambda weights: weights[name][3, 5:7].fill_(value))
    (raw / FILE).unlink(missing_ok=True)
    refused(raw, rf"2 of the \d+ numbers in {name} are not finite", kind)


# --- Heads of other projects ---


@pytest.mark.parametrize("names", [
    ("v_head.summary.weight", "v_head.summary.bias"), ("v_head.weight",), ("value_head.weight",),
    ("regression_layer.weight", "gating.weight"), ("rewards.weight",), ("reward_head.weight",),
])  # fmt: skip
@pytest.mark.parametrize("kind", [None, "scalar"])
def test_a_head_of_another_project(names: tuple[str, ...], kind: str | None, raw: Path) -> None:
    """TRL's value head, OpenRLHF's, ArmoRM's: named, with what to do."""
    change_weights(raw, lambda weights: weights.update({name: torch.ones(1, 128) for name in names}))
    refused(raw, rf"its files hold {min(names)}, .* can be renamed to score\.weight", kind)


def test_a_renamed_value_head_scores(raw: Path, preset: LoadedModel) -> None:
    """The remedy of the message: the score is the product of the last hidden state with the head."""
    head = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    change_weights(raw, lambda weights: weights.update({"score.weight": head}))
    edit(raw / "config.json", num_labels=1, architectures=["LlamaForSequenceClassification"])
    scores = gram.load(raw, "scalar", device="cpu").score(["why ?"], ["blue"])  # type: ignore[union-attr]
    body: Any = load_model(raw, "score").model.base_model
    turns = [{"role": "user", "content": "why ?"}, {"role": "assistant", "content": "blue"}]
    text = str(preset.tokenizer.apply_chat_template(turns, tokenize=False))
    ids = torch.tensor([preset.tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        wanted = float(body(ids).last_hidden_state[0, -1] @ head[0])
    assert scores.tolist() == pytest.approx([wanted], abs=1e-4)


@pytest.mark.parametrize("outputs", [2, 5])
@pytest.mark.parametrize("encoder", [False, True])
def test_a_classifier_with_several_outputs(
    outputs: int, encoder: bool, preset: LoadedModel, tmp_path: Path
) -> None:
    import transformers as hf

    config: Any = classifier("llama", len(preset.tokenizer)).config
    if encoder:
        config = hf.BertConfig(
            vocab_size=400, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
        )
    config = copy.deepcopy(config)
    config.num_labels = outputs
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    preset.tokenizer.save_pretrained(tmp_path)
    refused(tmp_path, rf"a classifier with {outputs} outputs \((score|classifier)\.", "scalar")


def test_quantised_weights_without_their_library(raw: Path) -> None:
    edit(raw / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    refused(raw, "need a library, or a device, that is not here")


# --- Code of the model's own ---

CODE = """
from pathlib import Path
Path({mark!r}).write_text("run")
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_a_model_runs_only_where_it_is_allowed(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not asked for, not run; with the flag the model scores as the same weights do without code."""
    wanted = gram.load(raw, device="cpu").compare(PAIRS).log_odds
    mark = tmp_path / "mark"
    (raw / "own.py").write_text(CODE.format(mark=str(mark)))
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    edit(raw / "config.json", model_type="own", architectures=["OwnModel"], auto_map=auto)

    def ask(*_: object) -> str:
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", ask)
    refused(raw, r"comes with code of its own, .* --trust-remote-code")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "q", "a": "x", "b": "y"}) + "\n")
    command = (
        "score",
        "--model",
        raw,
        "--input",
        rows,
        "--output",
        tmp_path / "out.jsonl",
        "--device",
        "cpu",
    )
    code, _, err = run(capsys, *command)
    assert code == 1 and "--trust-remote-code" in err and not mark.exists()
    adapt = ("adapt", "--model", raw, "--data", rows, "--output", tmp_path / "adapted")
    train = ("train", "--model", raw, "--data", rows, "--output", tmp_path / "trained")
    for other in (adapt, train):
        code, _, err = run(capsys, *other, "--device", "cpu")
        assert code == 1 and not mark.exists(), err
    model = gram.load(raw, device="cpu", trust_remote_code=True)
    assert mark.exists()
    np.testing.assert_allclose(model.compare(PAIRS).log_odds, wanted, atol=1e-5)
    assert run(capsys, *command, "--trust-remote-code")[0] == 0


# --- Fields of wrong types ---

DEEP = "[" * 100_000 + "]" * 100_000
WRONG: dict[str, dict[str, Any]] = {
    "objective": {"objective": ["preference"]},
    "objective.name": {"objective": {"name": 3}},
    "objective.label_smoothing": {"objective": {"label_smoothing": "0.1"}},
    "objective.reference": {"objective": {"reference": 7}},
    "calibration.temperature": {"calibration": {"temperature": "hot"}},
    "calibration": {"calibration": 2.0},
    "label_ids[0]": {"label_ids": ["A", "B"]},
    "label_ids[1]": {"label_ids": [5, None]},
    "label_ids": {"label_ids": [5, 6, 7]},
    "max_length": {"max_length": True},
    "beta": {"beta": 10**400},
    "length_power": {"length_power": None},
    "neutralise": {"neutralise": "no"},
    "versions.torch": {"versions": {"torch": 2}},
    "data[0]": {"data": ["rows.jsonl"]},
    "files.config.json": {"files": {"config.json": None}},
    "base.name": {"base": {"name": []}},
    "adaptation": {"adaptation": []},
    "kind": {"kind": {}},
    "context": {"context": []},
    "template_hash": {"template_hash": 5},
}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_of_gram_json_of_a_wrong_type(field: str, folder: Path) -> None:
    edit(folder / FILE, **WRONG[field])
    refused(folder, rf"gram\.json: field '{field}'".replace("[", r"\[").replace("]", r"\]"))


TEXTS: dict[str, str] = {
    "deep": DEEP,
    "deep inside": '{"a": ' + "[" * 900 + "]" * 900 + "}",
    "twice": '{"a": 1, "a": 2}',
    "digits": '{"a": ' + "9" * 5000 + "}",
    "a list": "[]",
    "half": '{"a": ',
}


@pytest.mark.parametrize("file", [FILE, "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("case", [*TEXTS, "bytes", "mark"])
def test_what_is_no_json(case: str, file: str, folder: Path) -> None:
    """One line that names the file, whatever stands in it."""
    content = {"bytes": b"\xff\xfe\x00", "mark": b"\xef\xbb\xbf{}"}.get(case) or TEXTS[case].encode()
    (folder / file).write_bytes(content)
    refused(folder, rf"{file}: not (JSON|a JSON object)")


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("tokenizer_config.json", "model_max_length", "512"),
        ("tokenizer_config.json", "model_max_length", -5),
        ("tokenizer_config.json", "chat_template", 5),
        ("tokenizer_config.json", "eos_token", 5),
        ("config.json", "num_hidden_layers", "3"),
        ("config.json", "num_hidden_layers", 10**30),
        ("config.json", "vocab_size", -1),
        ("config.json", "max_position_embeddings", "many"),
        ("config.json", "architectures", "LlamaForCausalLM"),
        ("config.json", "model_type", ["llama"]),
        ("config.json", "rope_parameters", "twice"),
        ("config.json", "num_attention_heads", "4"),
    ],
)
def test_a_field_of_another_file_of_a_wrong_type(file: str, field: str, value: Any, raw: Path) -> None:
    """Ours name file and field; where transformers checks a field itself, its message is passed on."""
    edit(raw / file, **{field: value})
    refused(raw, f"cannot be loaded as a model: .*{field}")


# --- Tokenizers ---


def chatml(folder: Path, *, extra: str = "", special: bool = True) -> tuple[Path, Any]:
    """A ChatML model whose tokenizer has one more token than the model embeds."""
    tokenizer: Any = byte_level(template=CHATML, words=["<|im_start|>", "<|im_end|>"], eos="<|im_end|>")
    model = copy.deepcopy(causal("llama", len(tokenizer)))
    tokenizer.add_tokens([extra], special_tokens=special)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


def test_a_special_token_that_is_not_embedded(tmp_path: Path) -> None:
    """As with Gemma 3 1B: accepted, harmless in text, and an error only where it is really met."""
    folder, _ = chatml(tmp_path, extra="<image_soft_token>")
    model = gram.load(folder, "likelihood", device="cpu")
    scores = model.score(["what is <image_soft_token> ?", "why ?"], ["an <image_soft_token>", "so"])  # type: ignore[union-attr]
    assert np.isfinite(scores).all()
    model = gram.load(folder, "likelihood", device="cpu", neutralise=False)
    with pytest.raises(gram.GramError, match="'<image_soft_token>', which the model does not embed"):
        model.score(["what is <image_soft_token> ?"], ["so"])  # type: ignore[union-attr]


def test_a_word_that_is_not_embedded(tmp_path: Path) -> None:
    folder, tokenizer = chatml(tmp_path, extra="brandnew", special=False)
    refused(folder, f"has {len(tokenizer)} tokens, .* 'brandnew' would have no embedding")


def test_a_scalar_model_of_gpt2_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The end token is the only special one; trained, saved and read by transformers, row by row."""
    from transformers import AutoModelForSequenceClassification

    tokenizer: Any = byte_level(["<|endoftext|>"], eos="<|endoftext|>", newer=False)
    tokenizer.pad_token = None
    start = tmp_path / "start"
    copy.deepcopy(causal("gpt2", len(tokenizer))).save_pretrained(start)
    tokenizer.save_pretrained(start)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"prompt": f"q {k}", "chosen": "good " * (k + 1), "rejected": "bad"}) + "\n"
            for k in range(8)
        )
    )
    output = tmp_path / "scalar"
    code, _, err = run(
        capsys, "train", "--model", start, "--data", rows, "--objective", "scalar", "--output", output,
        "--max-steps", 2, "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads((output / "config.json").read_text())["pad_token_id"] is None
    model = gram.load(output, device="cpu")
    scores = model.score(["q", "why is it so ?"], ["good", "because it is so and so"])  # type: ignore[union-attr]
    theirs: Any = AutoModelForSequenceClassification.from_pretrained(output).eval()
    items = model._renderer.answers(*_as_rows())  # type: ignore[union-attr]
    for item, score in zip(items, scores, strict=True):
        with torch.no_grad():
            assert float(theirs(torch.tensor([item.ids])).logits[0, 0]) == pytest.approx(score, abs=1e-5)


def _as_rows() -> tuple[list[Any], list[str]]:
    from gram.types import as_chat

    return [as_chat("q"), as_chat("why is it so ?")], ["good", "because it is so and so"]

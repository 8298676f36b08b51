"""``--dtype``: what auto means, where it is told, and how far bf16 is from fp32."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from transformers import LlamaConfig, LlamaForCausalLM

import gram
from conftest import make_manifest, make_preferences, run, sharpened
from gram.asking import LoadOptions
from gram.config_file import read_config
from gram.errors import ConfigError
from gram.evaluation import runner
from gram.flags import parse
from gram.modeling import precision
from gram.modeling.fingerprint import fingerprint_of
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import read_manifest
from gram.modeling.precision import multiplies_bf16, precision_of
from gram.modeling.saving import save_checkpoint
from gram.rendering import Renderer
from gram.scoring.ensemble import ensemble
from gram.scoring.scalar import LikelihoodModel
from gram.training.config import TrainConfig
from gram.training.pipeline import train

PAIRS = [row.pair for row in make_preferences(24)]
MOST, MEAN = 0.2, 0.05
"""How far log-odds in bf16 may be from those in fp32, in nats: at most, and on average."""


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that multiplies bf16 in hardware."""
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)


@pytest.fixture(scope="module")
def wide(preset: LoadedModel, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of two layers, as wide as auto asks for, whose verdicts differ from pair to pair."""
    torch.manual_seed(0)
    ids = preset.tokenizer.get_vocab()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(preset.tokenizer),
            hidden_size=precision.WIDE,
            intermediate_size=1024,
            num_hidden_layers=2,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            bos_token_id=None,
            eos_token_id=ids["<|end|>"],
            pad_token_id=ids["<|pad|>"],
        )
    ).eval()
    folder = tmp_path_factory.mktemp("wide") / "judge"
    manifest = make_manifest("judge", renderer)
    save_checkpoint(folder, sharpened(model, 2.0), copy.deepcopy(preset.tokenizer), manifest)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    pairs = [{"prompt": p.prompt[0].content, "chosen": p.a, "rejected": p.b} for p in PAIRS[:12]]
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return path


# --- What auto means ---


@pytest.mark.parametrize(
    ("processor", "fast"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\nbugs :", True),
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\nbugs : amx_bf16", False),
        ("processor : 0\nFeatures\t: fp asimd bf16 sve svebf16", False),
        ("", False),
    ],
)
def test_a_processor_is_known_by_its_flags(
    processor: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(processor)
    monkeypatch.setattr(precision, "_PROCESSOR", tmp_path / "cpuinfo")
    assert multiplies_bf16("cpu") == fast


def test_an_unknown_processor_stays_with_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_PROCESSOR", tmp_path / "nothing")
    assert not multiplies_bf16("cpu")


@pytest.mark.parametrize("in_hardware", [True, False])
def test_a_gpu_that_imitates_bf16_does_not_count(in_hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return in_hardware or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert multiplies_bf16("cuda") == in_hardware


def config_of(folder: Path, hidden: int) -> Path:
    """A model of that width, of which nothing but its configuration is there."""
    LlamaConfig(hidden_size=hidden, num_attention_heads=1).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("hardware", [True, False])
@pytest.mark.parametrize(("hidden", "is_wide"), [(510, False), (512, True)])
def test_auto_is_bf16_for_wide_models_where_it_is_fast(
    hardware: bool, hidden: int, is_wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder and of an adapter on it, without weights; what is named stays what it is."""
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: hardware)
    folder = config_of(tmp_path / "base", hidden)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": str(folder), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    wanted = "bf16" if hardware and is_wide else "fp32"
    assert precision_of(folder, "auto", "cpu") == precision_of(adapter, "auto", "cpu") == wanted
    assert [precision_of(folder, name, "cpu") for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    other = config_of(tmp_path / "other", 1024)
    moved = precision_of(adapter, "auto", "cpu", base=other)
    assert moved == ("bf16" if hardware else "fp32")
    assert precision_of(folder, "auto", "cpu", base=other) == wanted  # a whole model has no base


@pytest.mark.usefixtures("fast")
def test_auto_knows_the_width_of_what_is_no_folder() -> None:
    """``preset:base`` is 768 wide, ``preset:small`` 384 and ``preset:light`` 256."""
    names = ("preset:base", "preset:small", "preset:light")
    assert [precision_of(name, "auto", "cpu") for name in names] == ["bf16", "fp32", "fp32"]


def test_a_configuration_is_opened_only_where_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without bf16 a name on the Hub costs no request."""
    assert precision_of("owner/not-there", "auto", "cpu") == "fp32"
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: True)
    assert precision_of("owner/not-there", "bf16", "cpu") == "bf16"
    with pytest.raises(gram.GramError, match="owner/not-there"):
        precision_of("owner/not-there", "auto", "cpu")


def test_no_other_precision_is_known() -> None:
    with pytest.raises(ConfigError, match="dtype must be one of auto, fp32, bf16, got 'fp8'"):
        precision_of("preset:tiny", "fp8", "cpu")  # type: ignore[arg-type]


# --- What it changes ---


@pytest.mark.usefixtures("fast")
def test_bf16_stays_near_fp32(wide: Path) -> None:
    """The verdicts spread over more than half a nat, and bf16 moves them by less than the bounds."""
    fp32, bf16 = gram.load(wide, device="cpu", dtype="fp32"), gram.load(wide, device="cpu")
    assert (fp32.dtype, bf16.dtype) == ("fp32", "bf16")
    exact, coarse = (model.compare(PAIRS).log_odds for model in (fp32, bf16))
    difference = np.abs(coarse - exact)
    assert exact.std() > 0.5 and (coarse != exact).any()
    assert difference.max() < MOST and difference.mean() < MEAN


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("engine", ["tree", "plain"])
def test_order_and_batch_change_little_in_bf16(engine: Any, wide: Path) -> None:
    """Swapped pairs, and pairs asked one by one, differ by what bf16 may round, as all together do."""
    model = gram.load(wide, device="cpu", engine=engine)
    together = model.compare(PAIRS).log_odds
    swapped = model.compare([pair.swapped() for pair in PAIRS]).swapped().log_odds
    alone = np.concatenate([model.compare([pair]).log_odds for pair in PAIRS])
    small = gram.load(wide, device="cpu", engine=engine, token_budget=100).compare(PAIRS).log_odds
    for other in (swapped, alone, small):
        assert_allclose(other, together, atol=MOST)
        assert np.abs(other - together).mean() < MEAN


@pytest.mark.usefixtures("fast")
def test_models_that_are_asked_together_are_in_the_precision_of_the_first(
    wide: Path, judge_folder: Path, likelihood_folder: Path
) -> None:
    assert [m.dtype for m in ensemble([wide, judge_folder], device="cpu").members] == ["bf16", "bf16"]  # type: ignore[attr-defined]
    assert [m.dtype for m in ensemble([judge_folder, wide], device="cpu").members] == ["fp32", "fp32"]  # type: ignore[attr-defined]
    for dtype in ("bf16", "fp32"):
        options: dict[str, Any] = {"kind": "likelihood", "reference": likelihood_folder, "device": "cpu"}
        model = gram.load(wide, dtype=dtype, **options)
        assert isinstance(model, LikelihoodModel) and model._reference is not None
        assert model.dtype == model._reference.dtype == dtype


# --- Where it is told ---


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Moves the run to a machine with or without bf16."""
    yield lambda hardware: monkeypatch.setattr(precision, "multiplies_bf16", lambda device: hardware)


def test_every_command_that_asks_says_what_it_was(
    wide: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    switch: Callable[[bool], None],
) -> None:
    candidates = tmp_path / "candidates.jsonl"
    answers = [[pair.a, pair.b] for pair in PAIRS[:3]]
    contests = [{"prompt": f"which {n} ?", "responses": texts} for n, texts in enumerate(answers)]
    candidates.write_text("".join(json.dumps(row) + "\n" for row in contests))
    inputs = {"score": rows, "rank": candidates, "mine": candidates}
    for hardware, wanted in ((True, "bf16"), (False, "fp32")):
        switch(hardware)
        out = tmp_path / wanted
        for command, path in inputs.items():
            flags = ["--model", wide, "--input", path, "--output", out / command, "--device", "cpu"]
            code, result, err = run(capsys, command, *flags)
            assert (code, result.get("dtype")) == (0, wanted), err
        flags = ["--model", wide, "--data", rows, "--output", out / "eval", "--device", "cpu"]
        code, result, err = run(capsys, "eval", *flags)
        assert (code, result["dtype"]) == (0, wanted), err
        assert json.loads((out / "eval" / "results.json").read_text())["dtype"] == wanted
        assert f"both orders,\n{wanted}," in (out / "eval" / "report.html").read_text()
        code, result, err = run(capsys, "score", "--model", wide, "--input", rows, "--device", "cpu",
                                "--output", out / "named", "--dtype", wanted)  # fmt: skip
        assert code == 0 and (out / "named").read_bytes() == (out / "score").read_bytes()
    assert (tmp_path / "bf16" / "score").read_bytes() != (tmp_path / "fp32" / "score").read_bytes()


def test_shards_of_two_precisions_are_not_merged(
    wide: Path,
    rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    switch: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Auto on two machines of different kinds; named, both shards agree."""
    evaluate = runner.evaluate
    monkeypatch.setattr(runner, "evaluate", lambda *a, **k: evaluate(*a, chunk=5, **k))
    command = ["eval", "--model", wide, "--data", rows, "--output", tmp_path / "out", "--device", "cpu"]
    switch(True)
    assert run(capsys, *command, "--shard", "1/2")[0] == 0
    switch(False)
    code, _, err = run(capsys, *command, "--shard", "2/2")
    assert code == 1 and "--dtype" in err, err
    code, result, err = run(capsys, *command, "--shard", "2/2", "--dtype", "bf16")
    assert code == 0 and result["dtype"] == "bf16", err


def test_a_fingerprint_holds_what_auto_became(wide: Path, switch: Callable[[bool], None]) -> None:
    found = {}
    for hardware in (True, False):
        switch(hardware)
        for name in ("auto", "fp32", "bf16"):
            found[hardware, name] = fingerprint_of([str(wide)], LoadOptions(device="cpu", dtype=name))
    assert found[True, "auto"] == found[True, "bf16"] == found[False, "bf16"]
    assert found[False, "auto"] == found[False, "fp32"] == found[True, "fp32"] != found[True, "auto"]


@pytest.mark.usefixtures("fast")
def test_a_training_says_what_it_was(wide: Path, rows: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": str(wide), "data": [str(rows)], "max_steps": 1, "batch_size": 2}
    results = {}
    for dtype in ("auto", "bf16", "fp32"):
        config = TrainConfig(**options, output=tmp_path / dtype, dtype=dtype, device="cpu")
        results[dtype] = train(config)
        manifest = read_manifest(config.output)
        assert manifest is not None
        assert results[dtype]["dtype"] == manifest.training["dtype"] == {"auto": "bf16"}.get(dtype, dtype)
    losses = {name: result["train_loss"] for name, result in results.items()}
    assert losses["auto"] == losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


@pytest.mark.usefixtures("fast")
def test_an_adaptation_says_what_it_was(
    wide: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--max-steps", 1, "--folds", 2, "--learning-rates", 1e-3, "--device", "cpu"]
    gains = {}
    for dtype in ("auto", "bf16", "fp32"):
        out = tmp_path / dtype
        flags = ["--model", wide, "--data", rows, "--output", out, "--dtype", dtype]
        code, result, err = run(capsys, "adapt", *flags, *quick)
        assert code == 0, err
        assert result["dtype"] == {"auto": "bf16"}.get(dtype, dtype)
        assert json.loads((out / "adapt.json").read_text())["dtype"] == result["dtype"]
        manifest = read_manifest(out)
        assert manifest is not None and manifest.adaptation["dtype"] == result["dtype"]
        gains[dtype] = result["log_loss_gain"]["value"]
    assert gains["auto"] == gains["bf16"] != gains["fp32"]


# --- The option that it replaced ---


def test_the_old_option_is_refused_with_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    required = "model: m\ndata: [d]\noutput: o\n"
    path.write_text(required + "bf16: true\n")
    told = r"dtype \(auto, fp32, bf16\) has taken its place"
    with pytest.raises(ConfigError, match=rf"old\.yaml: option 'bf16' is no option any more: {told}"):
        read_config(TrainConfig, path)
    flags = ["--model", "m", "--data", "d", "--output", "o"]
    for flag in ("--bf16", "--no-bf16", "--bf16=True"):
        with pytest.raises(ConfigError, match=f"^{flag} is no option any more: --{told}"):
            parse(TrainConfig, [*flags, flag], "gram train")
    path.write_text(required + "dtype: bf16\n")
    assert read_config(TrainConfig, path).dtype == "bf16"
    assert parse(TrainConfig, [*flags, "--dtype", "bf16"], "gram train").dtype == "bf16"

"""How a model is asked: one list of options, which ``gram.load``, the flags and ``gram.json`` all mean."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import run
from gram import Pair
from gram.asking import LONGEST_PROMPT, Asking, LoadOptions, Running
from gram.cli.score import Config
from gram.errors import ConfigError
from gram.flags import parse
from gram.modeling.manifest import Manifest, completed
from gram.modeling.shipped import named_revision

PAIRS = [
    Pair("what is in the garden near the old tower ?", "the silver key .", "bread and a river of silver"),
    Pair("what is at the market ?", "the <|end|> .", "the river and the school ."),
]
VALUES: dict[str, Any] = {
    "kind": "likelihood",
    "template": "compact",
    "max_length": 77,
    "context": "judge",
    "layout": "fan",
    "length_power": 0.5,
    "baseline": "unconditional",
    "reference": "somewhere",
    "device": "cpu",
    "dtype": "bf16",
    "engine": "plain",
    "token_budget": 40,
    "tokenizer": "somewhere",
    "connections": 3,
    "deadline": 7.5,
    "spend": 1000,
    "cache": "answers.sqlite",
    "revision": "v1",
    "base": "somewhere",
}


def options(*flags: str) -> LoadOptions:
    return parse(Config, ["--model", "m", "--input", "i", "--output", "o", *flags], "gram score").options


def test_every_option_has_its_flag() -> None:
    """One field after another: its flag gives its value and changes nothing else."""
    usual = options()
    assert usual == LoadOptions()
    for name, value in VALUES.items():
        assert options(f"--{name.replace('_', '-')}", str(value)) == replace(usual, **{name: value}), name
    assert options("--raw-control-tokens") == replace(usual, neutralise=False)
    assert options("--single-order") == replace(usual, both_orders=False)
    assert options("--trust-remote-code") == replace(usual, trust_remote_code=True)
    switches = {"neutralise", "both_orders", "trust_remote_code"}
    assert {item.name for item in fields(LoadOptions)} == {*VALUES, *switches}


def test_load_takes_what_the_list_says() -> None:
    names = [item.name for item in fields(LoadOptions)]
    assert set(inspect.signature(gram.load).parameters) == {"path", *names}
    with pytest.raises(TypeError, match="no_such_option"):
        gram.load("gram-135m", no_such_option=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Asking("oracle"),  # type: ignore[arg-type]
        lambda: Asking(context="prompt"),  # type: ignore[arg-type]
        lambda: Asking(baseline="prior"),  # type: ignore[arg-type]
        lambda: Running(dtype="fp8"),  # type: ignore[arg-type]
        lambda: LoadOptions(engine="fast"),  # type: ignore[arg-type]
        lambda: LoadOptions("oracle"),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_is_none_of_those_named_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match="must be one of"):
        make()


def test_what_is_left_open_is_as_in_training() -> None:
    manifest = Manifest(
        "likelihood", {}, "", 64, neutralise=False, context="judge", length_power=1.0,
        objective={"reference": "before"},
    )  # fmt: skip
    whole = completed(Asking(), manifest)
    assert (whole.kind, whole.neutralise, *whole.of_likelihoods) == (
        "likelihood", False, "judge", 1.0, "none", "before",
    )  # fmt: skip
    given = Asking(neutralise=True, context="chat", length_power=0.0, reference="mine")
    whole = completed(given, manifest)
    assert (whole.neutralise, *whole.of_likelihoods) == (True, "chat", 0.0, "none", "mine")
    raw = completed(Asking(), None)
    assert (raw.kind, raw.neutralise, raw.context) == ("judge", True, None)
    assert completed(Asking("likelihood"), None).context == "chat"


def test_a_revision_belongs_to_the_hub(judge_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches the loaders, from the option or from the name; a folder has none."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    seen: list[tuple[str, Any]] = []

    def ask(name: str, *, revision: Any = None, **_: Any) -> Any:
        seen.append((name, revision))
        if len(seen) % 2:
            return "a tokenizer"
        raise OSError("there is no Hub here")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", ask)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", ask)
    for name, given in (("owner/name", "v2"), ("owner/name@v2", None), ("owner/name@v1", "v2")):
        with pytest.raises(gram.GramError, match=r"owner/name: .*no Hub here"):
            gram.load(name, revision=given, device="cpu")
    assert seen == [("owner/name", "v2")] * 6
    assert named_revision("owner/name@refs/pr/3") == ("owner/name", "refs/pr/3")
    with pytest.raises(ConfigError, match="only models on the Hub have revisions"):
        gram.load(judge_folder, revision="v2")


def scores_of(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[float]:
    rows, output = tmp_path / "rows.jsonl", tmp_path / f"scores{len(list(tmp_path.iterdir()))}.jsonl"
    pairs = [{"prompt": pair.prompt[0].content, "a": pair.a, "b": pair.b} for pair in PAIRS]
    rows.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    command = ["score", "--model", model, "--input", rows, "--output", output, "--device", "cpu"]
    code, _, error = run(capsys, *command, *flags)
    assert code == 0, error
    return [json.loads(line)["log_odds"][0] for line in output.read_text().splitlines()]


@pytest.mark.parametrize(
    ("flags", "given", "changes"),
    [
        ("--raw-control-tokens", {"neutralise": False}, True),
        ("--context judge", {"context": "judge"}, True),
        ("--max-length 16", {"max_length": 16}, True),
        ("--token-budget 40", {"token_budget": 40}, False),
        ("--engine plain", {"engine": "plain"}, False),
    ],
)
def test_a_flag_reaches_the_model(
    flags: str,
    given: dict[str, Any],
    changes: bool,
    likelihood_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = scores_of(likelihood_folder, tmp_path, capsys, *flags.split())
    wanted = gram.load(likelihood_folder, device="cpu", **given).compare(PAIRS).log_odds[:, 0]
    assert scores == pytest.approx(wanted.tolist(), abs=1e-3)
    usual = gram.load(likelihood_folder, device="cpu").compare(PAIRS).log_odds[:, 0]
    assert (scores != pytest.approx(usual.tolist(), abs=1e-2)) == changes


def test_bf16_is_near_and_is_another_precision(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights with 8 bits of mantissa: a little else, but the same verdict; auto is fp32 on a CPU."""
    bf16, fp32, auto = (
        np.array(scores_of(judge_folder, tmp_path, capsys, "--dtype", name))
        for name in ("bf16", "fp32", "auto")
    )
    assert (auto == fp32).all() and (bf16 != fp32).any()
    assert np.abs(bf16 - fp32).max() < 0.2 * np.abs(fp32).max()
    loaded = gram.load(judge_folder, device="cpu", dtype="bf16")
    assert loaded.compare(PAIRS).log_odds[:, 0] == pytest.approx(bf16, abs=1e-6)


def test_training_and_scoring_have_one_longest_prompt(preset: Any) -> None:
    """Left open, a raw model's prompts are as long as it reads, and as the one constant says, in both."""
    from gram.modeling.renderers import renderer_for
    from gram.training.assemble import asking_of
    from gram.training.config import TrainConfig

    config = TrainConfig(model="m", data=["d"], output=Path("o"))
    assert asking_of(config, preset) == Asking()
    assert renderer_for(preset, Asking(), source="m").max_length == min(LONGEST_PROMPT, preset.context)
    assert renderer_for(preset, Asking(max_length=9), source="m").max_length == 9
    assert renderer_for(preset, Asking(), source="m", readable=50).max_length == 50

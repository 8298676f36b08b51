"""gram-small, the model that comes with the package: it is there, small, and scores as it did."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import gram
from gram.cli.main import main
from gram.modeling.digests import deciding_files
from gram.modeling.shipped import model_folder, shipped_models
from gram.scoring.scalar import LikelihoodModel
from gram.training.config import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "gram-small"
LARGEST = 20_000_000
EVERYDAY = ROOT / "experiments" / "foundation" / "everyday.jsonl"
RANKED = ROOT / "experiments" / "results" / "gram_small_everyday.jsonl"
PAIRS = (
    gram.Pair("What is the capital of France?", "The capital of France is Paris.", "bread bread bread bread"),
    gram.Pair(
        "How do I steal a car without being caught?",
        "I cannot help with stealing a car. If you have lost your key, a locksmith can help.",
        "Break the window with a hammer, then connect the wires under the wheel.",
    ),
    gram.Pair("Name three fruits.", "Apples, pears and plums.", "I do not know."),
)
GOLDEN = (-0.2967, -0.2371, -0.5003)
"""Log-odds of the first answer; a retrained model changes them on purpose."""


@pytest.fixture(scope="module")
def model() -> LikelihoodModel:
    found = gram.load("gram-small", device="cpu")
    assert isinstance(found, LikelihoodModel)
    return found


def folder() -> Path:
    assert shipped_models() == ("gram-small",)
    found = model_folder("gram-small")
    assert found is not None
    return found


def test_it_scores_as_it_did(model: LikelihoodModel) -> None:
    """Golden values; the tolerance is that of other processors' rounding."""
    np.testing.assert_allclose(model.compare(PAIRS).log_odds.mean(axis=1), GOLDEN, atol=5e-3)


def test_it_is_small_whole_and_reads_what_it_was_trained_on(model: LikelihoodModel) -> None:
    assert (folder() / "model.safetensors").stat().st_size <= LARGEST
    assert sum(path.stat().st_size for path in folder().iterdir()) <= LARGEST
    manifest = json.loads((folder() / "gram.json").read_text())
    assert manifest["max_length"] == 512
    assert json.loads((folder() / "tokenizer_config.json").read_text())["model_max_length"] == 512
    assert model.temperature == manifest["calibration"]["temperature"]
    assert abs(manifest["evaluation"]["bfloat16_accuracy_change"]) <= 0.01


def test_its_files_are_those_that_its_manifest_names() -> None:
    """A changed file of the package is a new model: its digests are written with
    ``json`` from ``gram.modeling.digests.deciding_files``, as ``save_checkpoint`` does."""
    recorded = json.loads((folder() / "gram.json").read_text())["files"]
    assert recorded == deciding_files(folder())
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(recorded)


def test_a_long_prompt_is_cut_to_what_it_reads(model: LikelihoodModel) -> None:
    before = model.usage.truncated
    model.compare([gram.Pair("Say it.", "yes " * 600, "no " * 600)])
    assert model.usage.truncated == before + 2


def test_its_card_names_every_source_it_was_trained_on() -> None:
    card = (folder() / "MODEL_CARD.md").read_text()
    assert card == (CONFIGS / "MODEL_CARD.md").read_text()
    named = {
        Path(source.split("::")[0]).name.removesuffix(".jsonl.gz")
        for path in CONFIGS.glob("*.yaml")
        for source in [*load_config(path).data, *load_config(path).tokenizer_data]
        if "shared" in source
    }
    assert len(named) == 27
    rows = re.findall(r"^\| ([a-z0-9_]+)", card.split("## Data and attributions")[1], re.MULTILINE)
    assert named == {row for row in rows if row != "source"}


def test_everyday_prompts_are_ranked_as_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that the page names gives the orders it shows."""
    output = tmp_path / "ranked.jsonl"
    assert main(["rank", "--model", "gram-small", "--input", str(EVERYDAY), "--output", str(output)]) == 0
    capsys.readouterr()
    now, then = (
        {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}
        for path in (output, RANKED)
    )
    assert now.keys() == then.keys()
    for name, row in then.items():
        np.testing.assert_allclose(now[name]["strengths"], row["strengths"], atol=5e-3)

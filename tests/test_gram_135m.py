"""gram-135m, the model that comes with the package: whole, small, and as its pages say.

What asks it needs its base, which `make test` fetches; without it these tests are skipped.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from gram.cli.main import main
from gram.modeling.digests import deciding_files
from gram.modeling.shipped import model_folder, shipped_models

ROOT = Path(__file__).parents[1]
LARGEST = 12_000_000
"""Bytes of the adapter."""
EVERYDAY = ROOT / "experiments" / "foundation" / "everyday.jsonl"
RANKED = ROOT / "experiments" / "results" / "gram_135m_everyday.jsonl"
PAIRS = (
    gram.Pair("What is the capital of France?", "The capital of France is Paris.", "bread bread bread bread"),
    gram.Pair("Name three fruits.", "Apples, pears and plums.", "Cars, trains and planes."),
    gram.Pair("Find the person in: Marie Curie won two Nobel prizes.", "Marie Curie", "Nobel"),
)
GOLDEN = (2.1632, 1.9578, 1.9526)
"""Log-odds of the first answer, mean of both orders, in fp32; a retrained model changes them on purpose."""


def folder() -> Path:
    assert shipped_models() == ("gram-135m",)
    found = model_folder("gram-135m")
    assert found is not None
    return found


def manifest() -> dict[str, Any]:
    return json.loads((folder() / "gram.json").read_text())


def test_its_files_are_those_that_its_manifest_names() -> None:
    recorded = manifest()["files"]
    assert recorded == deciding_files(folder())
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(recorded)
    assert (folder() / "adapter_model.safetensors").stat().st_size <= LARGEST


def test_it_names_its_base_with_a_digest_and_was_calibrated() -> None:
    content = manifest()
    assert content["base"]["name"] == "smollm2-135m" and content["base"]["files"]
    settings = json.loads((folder() / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "smollm2-135m"
    assert content["max_length"] == 1024 and content["kind"] == "judge"
    assert content["calibration"]["temperature"] > 0
    assert abs(content["evaluation"]["bfloat16_accuracy_change"]) <= 0.01


def test_no_path_of_the_machine_it_was_made_on_came_with_it() -> None:
    for path in folder().iterdir():
        if path.suffix in (".json", ".md", ".jinja"):
            assert not re.search(r"/(tmp|home|root|work)/", path.read_text()), path.name


def test_its_card_names_every_source_of_data() -> None:
    card = (folder() / "MODEL_CARD.md").read_text()
    assert card == (ROOT / "configs" / "gram-135m" / "MODEL_CARD.md").read_text()
    named = set(re.findall(r"^\| ([a-z0-9_]+) \|", card.split("## Data and attributions")[1], re.MULTILINE))
    from experiments.foundation.data import CAPS, MADE_HERE, UNLABELED_CAPS

    assert {*CAPS, *UNLABELED_CAPS} - {MADE_HERE} <= named


@pytest.mark.usefixtures("base_of_gram_135m")
def test_it_scores_as_it_did() -> None:
    """Golden values; the tolerance is that of other processors' rounding."""
    model = gram.load("gram-135m", device="cpu", dtype="fp32")
    assert model.temperature == manifest()["calibration"]["temperature"]
    verdicts = model.compare(PAIRS)
    np.testing.assert_allclose(verdicts.log_odds.mean(axis=1), GOLDEN, atol=5e-3)
    swapped = model.compare([pair.swapped() for pair in PAIRS])
    np.testing.assert_allclose(swapped.p_a, 1 - verdicts.p_a, atol=1e-5)


@pytest.mark.usefixtures("base_of_gram_135m")
def test_a_long_prompt_is_cut_to_what_it_reads() -> None:
    model = gram.load("gram-135m", device="cpu")
    model.compare([gram.Pair("Say it.", "yes " * 1200, "no " * 1200)])
    assert model.usage.truncated == 2


@pytest.mark.usefixtures("base_of_gram_135m")
def test_everyday_prompts_are_ranked_as_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that the page names gives the strengths it shows, to what bf16 rounds."""
    output = tmp_path / "ranked.jsonl"
    assert main(["rank", "--model", "gram-135m", "--input", str(EVERYDAY), "--output", str(output)]) == 0
    capsys.readouterr()
    now, then = (
        {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}
        for path in (output, RANKED)
    )
    assert now.keys() == then.keys()
    for name, row in then.items():
        np.testing.assert_allclose(now[name]["strengths"], row["strengths"], atol=0.1)

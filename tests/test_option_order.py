"""The experiment on the order of options: what it counts, by hand, and that it runs on a small model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from experiments.option_order import finding, main, real_pairs

from gram import Pair, Preference
from gram.bench.decision import pipeline_is_there
from small_models import causal
from small_tokenizers import tokenizer_of


def test_what_is_counted_by_hand() -> None:
    """Three pairs; the better answer is "x" in all. A chooser that takes the first listed changes always, is
    right half the time, and takes the first always; one that knows never changes.
    """
    pairs = [Preference(Pair(f"{k}?", a="x", b="y"), 1.0) for k in range(2)]
    pairs.append(Preference(Pair("2?", a="y", b="x"), 0.0))
    found = finding("first", lambda pair: pair.a, pairs)
    assert (found.changed, found.right, found.first, found.pairs) == (1.0, 0.5, 1.0, 3)
    found = finding("knows", lambda pair: "x", pairs)
    assert (found.changed, found.right, found.first) == (0.0, 1.0, 0.5)
    assert found.cells[1] == "0.000 [0.000, 0.561]"  # Wilson: 3.84 / (3 + 3.84)


def write(folder: Path, name: str, count: int, split: str = "test") -> None:
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        for k in range(count):
            row = {"prompt": f"name a color {k}", "chosen": f"blue {k}", "rejected": "red " * (k + 1)}
            file.write(json.dumps(row | {"split": split}) + "\n")


def test_pairs_come_from_all_sources_in_turn_and_fit(tmp_path: Path) -> None:
    write(tmp_path / "pref", "one", 9)
    write(tmp_path / "pref", "two", 2)
    write(tmp_path / "pref", "none", 5, split="train")
    pairs = real_pairs(tmp_path / "pref", 6, lambda pair: len(pair.b.split()) < 5 and len(pair.a.split()) < 5)
    assert len(pairs) == 6
    assert {preference.p_a for preference in pairs} == {0.0, 1.0}  # the better answer on either side
    again = real_pairs(tmp_path / "pref", 6, lambda pair: len(pair.b.split()) < 5 and len(pair.a.split()) < 5)
    assert again == pairs
    of_a_file = real_pairs(tmp_path / "pref" / "none.jsonl.gz", 5, lambda pair: True)  # of all its splits
    assert len({preference.pair.prompt for preference in of_a_file}) == 5
    with pytest.raises(FileNotFoundError, match="name the folder with --data"):
        real_pairs(tmp_path / "nowhere", 6, lambda pair: True)


@pytest.mark.skipif(not pipeline_is_there(), reason="needs a newer transformers")
def test_it_runs_and_ours_never_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tokenizer_of("chatml")
    causal("llama", len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    write(tmp_path / "pref", "one", 6)
    output = tmp_path / "numbers.json"
    main([str(tmp_path / "model"), "--data", str(tmp_path / "pref"), "--pairs", "4", "--output", str(output)])
    numbers = {item["name"]: item for item in json.loads(output.read_text())}
    assert len(numbers) == 6 and {item["pairs"] for item in numbers.values()} == {4}
    assert numbers["gram.decide, as it is by default"]["changed"] == 0
    ours, theirs = numbers["gram.decide, one order"], numbers["pipeline, our prompt (gram export decision)"]
    assert {**ours, "name": ""} == {**theirs, "name": ""}
    assert "| pipeline, its own prompt |" in capsys.readouterr().out

"""Sources of items: the names that keep them apart, and the files beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gram.evaluation.sources import load, parse, training_rows


def test_no_two_sources_share_a_name() -> None:
    """A file may be called a#2 by itself."""
    assert [source.name for source in parse(["a.jsonl", "b/a.jsonl", "a#2.jsonl"])] == ["a", "a#2", "a#2#2"]
    assert [source.name for source in parse(["a#2.jsonl", "a.jsonl", "b/a.jsonl"])] == ["a#2", "a", "a#3"]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("/x/.hidden.jsonl", "hidden"),
        ("/x/..hidden.jsonl::test", "hidden"),
        ("/x/.jsonl", "jsonl"),
        ("/x/pairs.v2.jsonl", "pairs"),
        ("/x/my.folder/", "my"),
        ("../", "data"),
        ("..", "data"),
        (".", "data"),
        ("/", "data"),
        ("a/../../", "data"),
        ("me/pairs", "pairs"),
    ],
)
def test_a_name_is_that_of_the_file_and_no_path(spec: str, name: str) -> None:
    """Files in the output folder carry it, so it must not lead out of there."""
    [source] = parse([spec])
    assert source.name == name and "/" not in source.name
    first, second = parse([spec, spec])
    assert (first.name, second.name) == (name, f"{name}#2")


def test_each_file_of_a_source_keeps_its_rejects(tmp_path: Path) -> None:
    good = {"prompt": "q", "responses": ["x", "y"], "scores": [1, 0]}
    for name in ("one", "two"):
        rows = [good, {**good, "prompt": name, "scores": [1]}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [source] = parse([f"best-of-k={tmp_path / 'one.jsonl'},{tmp_path / 'two.jsonl'}"])
    found = load(source, on_error="skip", rejects=tmp_path / "best-of-k.rejects.jsonl")
    assert (len(found.items), found.counts["rejected"]) == (2, 2)
    for number, name in (("", "one"), (".2", "two")):
        [reject] = (tmp_path / f"best-of-k.rejects{number}.jsonl").read_text().splitlines()
        assert json.loads(reject)["row"]["prompt"] == name


def test_a_floor_learns_from_the_configuration_that_is_judged(tmp_path: Path) -> None:
    """Two configurations with two splits each: b's training rows are b's, and those of b's train none."""
    card = ["---", "configs:"]
    for config in "ab":
        card += [f"- config_name: {config}", "  data_files:"]
        for split in ("train", "test"):
            row = {"prompt": f"{config} {split}?", "chosen": "Yes.", "rejected": "No."}
            (tmp_path / config).mkdir(exist_ok=True)
            (tmp_path / config / f"{split}.jsonl").write_text(json.dumps(row))
            card += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---"]))
    for spec, split, expected in (
        (f"{tmp_path}::b:test", None, ["b train?"]),
        (f"{tmp_path}::a:test", "train", ["a train?"]),
        (f"{tmp_path}::b:", "test", ["b train?"]),
        (f"{tmp_path}::b:train", None, []),
        (f"{tmp_path}::b:train", "test", []),
    ):
        [source] = parse([spec])
        rows = training_rows(source, split, 100)
        assert [row.pair.prompt[0].content for row in rows] == expected, spec

"""Few labels of six tasks: how they are cut, every method on a toy, and what the tables make of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments.foundation import adaptation, tasks

from conftest import make_preferences
from gram.errors import ConfigError

Row = dict[str, Any]


def toy_rows(count: int, seed: int) -> list[Row]:
    return [
        {
            "id": f"{seed}-{place}",
            "prompt": made.pair.prompt[-1].content + f" ({seed}, {place})",
            "chosen": made.pair.a,
            "rejected": made.pair.b,
            "group": f"{seed}-{place // 2}",
        }
        for place, made in enumerate(make_preferences(count, seed))
    ]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task of 20 labels and 6 test rows, two steps in two folds, and files of its own."""
    task = tasks.Task("a toy", lambda: (toy_rows(20, 1), toy_rows(6, 2)))
    monkeypatch.setattr(adaptation, "TASKS", {"toy": task})
    monkeypatch.setattr(adaptation, "COUNTS", (0, 10, 300))
    monkeypatch.setattr(adaptation, "HOW", {"learning_rates": [1e-3], "max_steps": 2, "folds": 2})
    monkeypatch.setattr(adaptation, "WORK", tmp_path / "work")
    monkeypatch.setattr(adaptation, "RESULTS", tmp_path / "results.jsonl")


@pytest.mark.parametrize("kind", ["judge", "likelihood"])
@pytest.mark.usefixtures("toy")
def test_every_method_is_adapted_and_asked(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """16 cells less two: without labels there is one length rule; "300" are the 20 that there are."""
    folders = {name: str(request.getfixturevalue(f"{name}_folder")) for name in (kind, "scalar")}
    monkeypatch.setattr(adaptation, "BASE", str(request.getfixturevalue("converted")))
    command = ["--model", folders[kind], "--rival", folders["scalar"], "--device", "cpu", "--tasks", "toy"]
    monkeypatch.setattr(adaptation, "COUNTS", (0, 300))
    adaptation.main(command)
    found = adaptation.read(adaptation.RESULTS)
    assert len(found) == 1 + 2 * 4
    assert {row["given"] for row in found} == {0, 20}
    assert {row["accuracy"][3] for row in found} == {6}
    adapted = [row for row in found if row["method"] in adaptation.ADAPTED and row["labels"]]
    assert len(adapted) == 3 and all(row["adopted"] in (True, False) for row in adapted)
    [untaught] = [row for row in found if row["method"] == "bag_of_words" and not row["labels"]]
    assert untaught["accuracy"][:3] == [0.5, 0.5, 0.5]
    assert not list((tmp_path / "work").iterdir())

    monkeypatch.setattr(adaptation, "run", lambda *_: pytest.fail("asked again"))
    adaptation.main(command)
    with pytest.raises(ConfigError, match="has results of"):
        adaptation.main([*command, "--model", folders["scalar"]])


def test_what_is_no_model_of_ours_is_refused(converted: Path, scalar_folder: Path) -> None:
    for folder in (converted, scalar_folder):
        with pytest.raises(ConfigError, match="--model"):
            adaptation.Models(str(folder), str(scalar_folder))


def cell(method: str, labels: int, accuracy: float, **facts: Any) -> Row:
    three = [accuracy, accuracy - 0.1, accuracy + 0.1, 50]
    return {"task": "toy", "method": method, "labels": labels, "given": labels, "accuracy": three} | facts


@pytest.mark.usefixtures("toy")
def test_tables_say_how_many_labels_a_rival_needs() -> None:
    """The base needs 10 labels for gram's 0.70 without any, and all 20 for its 0.80; the bag never gets
    there; Bradley-Terry, whose third cell is missing, may or may not."""
    found = [cell("gram", 0, 0.7), cell("gram", 10, 0.8, adopted=False)]
    found += [cell("base", 0, 0.6), cell("base", 10, 0.7), cell("base", 300, 0.85, given=20)]
    found += [cell("bradley_terry", 0, 0.5), cell("bradley_terry", 10, 0.6)]
    found += [cell("bag_of_words", count, 0.5) for count in (0, 10, 300)]
    needed = adaptation.needed(found).splitlines()[2:]
    assert needed == [
        "| a toy | 0 | 0.700 | 10 | no so far | no |",
        "| a toy | 10 | 0.800 | 20 | no so far | no |",
    ]
    table = adaptation.table(found)
    assert "| a toy | gram-135m | 0.700 [0.600, 0.800] | 0.800 [0.700, 0.900] (old) | not run yet |" in table
    assert "0.850 [0.750, 0.950] of 20 |" in table


@pytest.mark.usefixtures("toy")
def test_a_picture_is_drawn_of_whole_lines(tmp_path: Path) -> None:
    whole = [cell(name, count, 0.6) for name in ("gram", "bag_of_words") for count in (0, 10, 300)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adaptation, "TASKS", {str(k): adaptation.TASKS["toy"] for k in range(6)})
        found = [row | {"task": str(k)} for row in whole for k in range(6)]
        adaptation.picture([*found, cell("base", 0, 0.5)], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def stored(monkeypatch: pytest.MonkeyPatch, found: Callable[[str, str], list[Row]]) -> None:
    monkeypatch.setattr(tasks, "read", lambda kind, source, split: found(source, split))


def test_tasks_share_nothing_between_labels_and_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of all six sources, in files that look like the real ones."""

    def rows(source: str, split: str) -> list[Row]:
        common = {"rejected": "no", "split": split}
        match source:
            case "persona":
                return [
                    common
                    | {"prompt": f"{trait} {k} {split}", "chosen": "Yes", "subset": trait, "group": f"{k}"}
                    for trait in (*tasks.TRAITS, "another")
                    for k in range(4)
                ]
            case "ukp_convarg":
                return [
                    common
                    | {"prompt": "?", "chosen": f"{side} {k // 2}", "subset": f"india_{side}", "group": group}
                    for group in (tasks.DEBATE, "another")
                    for side in ("yes-for", "no-against")
                    for k in range(6)
                ]
            case "wmt_mqm":
                return [
                    common
                    | {"prompt": f"{k}", "chosen": "yes", "subset": way, "group": f"document {k // 50}"}
                    for way in (tasks.DIRECTION, "en-de")
                    for k in range(500)
                ]
            case "superni":
                return [
                    common
                    | {"prompt": f"a : b. c : {k // 2}", "chosen": "d", "category": kind, "group": "task"}
                    for kind in (tasks.ANALOGIES, "another")
                    for k in range(320)
                ]
        return [
            common | {"prompt": f"{split} {k}", "chosen": "x", "group": f"{split} {k}"} for k in range(500)
        ]

    stored(monkeypatch, rows)
    sizes = {}
    for name, task in tasks.TASKS.items():
        labels, tests = task.rows()
        assert (labels, tests) == task.rows()
        assert (
            not {row["group"] for row in labels} & {row["group"] for row in tests} or "persona" in task.title
        )
        assert not {row["prompt"] for row in labels} & {row["prompt"] for row in tests} or name == "debate"
        sizes[name] = len(labels), len(tests)
    assert len(sizes) == 6
    assert sizes["debate"] == (6, 6) and len({row["group"] for row in tasks.TASKS["debate"].rows()[0]}) == 3
    assert sizes["translations"] == (300, 200)
    assert len({row["group"] for row in tasks.TASKS["translations"].rows()[0]}) == 300, "not 6 documents"
    assert sizes["analogies"] == (150, 170)
    assert sizes["conala"] == (300, 200)
    assert {sizes[trait] for trait in tasks.TRAITS} == {(4, 4)}
    json.dumps(tasks.TASKS["analogies"].rows())

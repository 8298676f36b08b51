"""The study of real text: its labels, its intervals, and every arm from training to the table, on a toy.

The toy has the sources, files and steps of the real study, a dozen rows each, and a model of three layers.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from experiments.real_text import arms, measure, mix, report, rows, ship, spoiled, tables, unseen

from conftest import make_preferences
from gram.statistics import mean_by_group
from gram.training.config import load_config
from gram.training.pipeline import train

ROOT = Path(__file__).parents[1]
SOURCES = [source for kind in rows.SETS.values() for source in kind.sources]


def write_source(name: str, folder: Path, split: str, count: int) -> None:
    """Rows two to a group, from texts that no other source has."""
    found = []
    for place, made in enumerate(make_preferences(count, seed=SOURCES.index(name))):
        prompt, a, b = made.pair.prompt[-1].content, made.pair.a, made.pair.b
        found.append(
            {
                "id": f"{name}-{place}",
                "prompt": f"{name} {split}: {prompt}",
                "chosen": f"{a} {name} {split}",
                "rejected": f"{b} {name} {split}",
                "group": f"{name}-{split}-{place // 2}",
                "split": split,
            }
        )
    with gzip.open(folder / f"{name}.jsonl.gz", "at", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in found))


def write_unlabeled(name: str, folder: Path) -> None:
    """Ten train prompts of two answers, and four test prompts."""
    made = make_preferences(14, seed=spoiled.SOURCES.index(name))
    with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
        for k, row in enumerate(made):
            texts = [f"{row.pair.a} said in {name} one {k}", f"{row.pair.b} said in {name} two {k}"]
            split = "train" if k < 10 else "test"
            line = {"prompt": f"{name} question {k}", "responses": texts, "split": split}
            file.write(json.dumps(line) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy sources, in which the study's relative paths mean the toy."""
    place = tmp_path_factory.mktemp("study") / "main"
    pref = place.parent / "shared" / "data" / "pref"
    pref.mkdir(parents=True)
    unlabeled = pref.with_name("unlabeled")
    unlabeled.mkdir()
    for source in spoiled.SOURCES:
        write_unlabeled(source, unlabeled)
    place.mkdir()
    for kind in rows.SETS.values():
        for source in kind.sources:
            write_source(source, pref, kind.split, 6)
            if kind.split == "test":
                write_source(source, pref, "train", 40)
    return place


def test_the_mix_is_balanced_repeatable_and_shares_no_group_with_its_calibration_rows(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eleven sources of 40 train rows in 20 groups, at most CAP of each."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(mix, "CAP", 30)
    labeled, calibration = mix.mix()
    assert (labeled, calibration) == mix.mix()
    counts = {source: sum(row["id"].startswith(f"{source}-") for row in labeled) for source in mix.LABELED}
    assert set(counts.values()) == {30}
    assert {row["split"] for row in labeled + calibration} == {"train"}
    assert not {row["group"] for row in labeled} & {row["group"] for row in calibration}
    assert calibration


def test_spoiled_answers_are_what_they_say(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven sources of ten train prompts: 70 at most, less those that spoiling leaves as they are."""
    monkeypatch.chdir(place)
    found = spoiled.spoiled(200)
    assert found == spoiled.spoiled(200) and spoiled.spoiled(20) == found[:20]
    assert 50 <= len(found) <= 70
    assert {row["subset"] for row in found} == set(spoiled.SPOILS)
    answers = {row["chosen"] for row in found}
    tests = spoiled.spoiled(200, split="test")
    assert tests and all(int(row["prompt"].split()[-1]) >= 10 for row in tests)
    for row in found:
        better, worse = row["chosen"].split(), row["rejected"].split()
        assert int(row["prompt"].split()[-1]) < 10, "a test prompt"
        match row["subset"]:
            case "shuffled":
                assert sorted(worse) == sorted(better) and worse != better
            case "repeated":
                assert len(worse) == len(better) and len(set(worse)) <= 4
            case "cut":
                assert worse == better[: len(worse)] and 0 < len(worse) <= len(better) / 2
            case "other":
                assert row["rejected"].split("said in ")[1].split()[0] == row["prompt"].split()[0]
                assert row["rejected"].split()[-1] != row["prompt"].split()[-1]
            case "echo":
                assert row["rejected"] == row["prompt"]
    assert len(answers) == len(found)


def test_a_group_is_held_back_by_its_name_alone() -> None:
    """One in sixteen: of 1,600 groups 100, give or take three standard deviations (9.7)."""
    assert abs(sum(mix.is_held_back(f"group {k}") for k in range(1600)) - 100) < 30


def test_rows_to_choose_by_share_no_question_with_those_that_are_used(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(mix, "CAP", 3)
    labeled, calibration = mix.mix()
    labels, free = unseen.unseen([*labeled, *calibration])
    used = {row["group"] for row in [*labeled, *calibration]}
    assert labels and not used & {row["group"] for row in labels}
    assert all(row["split"] == "train" for row in labels)
    assert free and {row["prompt"] for row in free} <= {row["prompt"] for row in labels}
    assert all(row["chosen"] != row["rejected"] for row in free)


def test_no_source_is_trained_and_tested_out_of_distribution_and_none_is_non_commercial() -> None:
    data = [
        source
        for path in sorted((ROOT / "configs" / "gram-small").glob("*.yaml"))
        for source in [*load_config(path).data, *load_config(path).tokenizer_data]
    ]
    assert not any("/nc/" in source for source in data)
    out, labeled = rows.SETS["out of distribution"].sources, set(mix.LABELED)
    assert not any(f"pref/{source}." in name for source in out for name in data)
    assert not labeled & {*out, *rows.SETS["tasks without a label"].sources}
    assert all(name.endswith("::train") for name in data if "/pref/" in name or "/unlabeled/" in name)


def test_an_interval_draws_groups_not_rows() -> None:
    """Ten rows in two groups, five 1s and five 0s: a draw of two groups has the mean 0, 1/2 or 1 with
    probabilities 1/4, 1/2, 1/4, so the 95% interval is [0, 1]. Ten groups of one row are narrower.
    """
    values = np.array([1.0] * 5 + [0.0] * 5)
    whole = mean_by_group(values, np.array(["x"] * 5 + ["y"] * 5))
    assert (whole.value, whole.low, whole.high, whole.n) == (0.5, 0.0, 1.0, 10)
    alone = mean_by_group(values, np.arange(10))
    assert 0.1 <= alone.low < 0.5 < alone.high <= 0.9


def answers(odds: Sequence[float], kind: str = "out of distribution") -> report.Answers:
    rows = [
        {"set": kind, "source": "s", "id": str(k), "group": "", "log_odds": [x, x]}
        for k, x in enumerate(odds)
    ]
    held = [
        {"set": "calibration", "source": "c", "id": str(k), "group": "", "log_odds": [x, x]}
        for k, x in enumerate([1.0, 1.0, 1.0, -1.0])
    ]
    return report.Answers([*rows, *held])


def test_a_lead_is_paired_and_a_tie_counts_half() -> None:
    """Right, wrong, tie, right against wrong, wrong, right, right: 2.5 - 2 of 4 rows."""
    one, other = answers([2, -1, 0, 3]), answers([-2, -1, 1, 1])
    where = one.sets == "out of distribution"
    assert one.accuracy(where).value == 0.625
    assert one.lead(other, where).value == 0.125
    with pytest.raises(ValueError, match="different rows"):
        one.lead(answers([1.0]), where)


def test_the_temperature_comes_from_the_calibration_rows() -> None:
    """Sure of 1 nat and right on three of four: best is odds 3, so the temperature is 1 / log 3."""
    assert answers([5.0]).temperature == pytest.approx(1 / np.log(3), abs=1e-4)


@pytest.mark.experiments
def test_every_arm_is_made_asked_and_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked again, nothing is asked; the shipped folder scores as the judge does, to bfloat16."""
    monkeypatch.chdir(place)
    mix.main([])
    folder = place / "configs" / "gram-small"
    folder.mkdir(parents=True)
    tiny = {"max_steps": 2, "batch_size": 4, "dtype": "fp32", "max_length": 192, "tokenizer_data": []}
    for path in sorted((ROOT / "configs" / "gram-small").glob("*.yaml")):
        options = yaml.safe_load(path.read_text()) | tiny | {"data": ["runs/gram-small/data/labeled.jsonl"]}
        options["model"] = options["model"].replace("light", "tiny")
        (folder / path.name).write_text(yaml.safe_dump(options))
    train(load_config(folder / "1-text.yaml"))
    train(load_config(folder / "2-pretrain.yaml"))
    monkeypatch.setattr(arms, "LENGTH", 192)

    arms.main([])
    measure.main([])
    before = {path: path.stat().st_mtime_ns for path in measure.asked().rglob("*.jsonl")}
    measure.main([])
    assert {path: path.stat().st_mtime_ns for path in measure.asked().rglob("*.jsonl")} == before
    again = ["likelihood", "bradley_terry_scratch", "--seed", "1"]
    arms.main(again)
    measure.main(again)

    found = json.loads(json.dumps(report.numbers()))
    assert list(found["arms"]) == list(tables.TITLES)
    assert found["arms"]["judge"]["sets"]["out of distribution"][3] == 6 * 13
    for name, title in tables.TITLES.items():
        row = next(line for line in tables.short_table(found).splitlines() if line.startswith(f"| {title} |"))
        assert f"{found['arms'][name]['sets']['in distribution'][0]:.3f}" in row
        for ours in tables.GRAM:
            assert (f"| {title} |" in tables.lead_table(found, ours)) == (name != ours)
    assert tables.calibration_table(found).count("\n") == 1 + len(arms.ARMS)
    assert tables.held_back_table(found).count("\n") == 1 + len(tables.TITLES)
    assert measure.read("likelihood", 1) != measure.read("likelihood")
    shown = tables.seeds_table(found)
    assert shown.count("| GRAM, likelihood | 0 |") == shown.count("| GRAM, likelihood | 1 |") == 1
    assert shown.count("less Bradley-Terry from scratch | 1 |") == 1 and shown.count("\n") == 1 + 2 * 2 + 2
    tables.picture(found, place / "picture.png")

    (folder / ship.CARD).write_text("card")
    shipped = ship.ship(arms.folder(arms.SHIPPED), place / "shipped")
    assert shipped["bfloat16_largest_change_of_p_a"] < 0.02
    assert (place / "shipped" / ship.CARD).read_text() == "card"


def test_everyday_prompts_are_shown_as_they_are_ranked() -> None:
    """Seven prompts of three answers: five as intended (shown), one with the best first, one upside down."""
    orders = [[0, 1, 2]] * 5 + [[0, 2, 1], [2, 1, 0]]
    prompts = [
        {"prompt": f"Question {k}?", "responses": ["x", "y", "z"], "order": order, "strengths": [0.5, 0, -1]}
        for k, order in enumerate(orders)
    ]
    shown = tables.everyday(prompts)
    assert "Of 7 prompts, 5 are ranked in the intended order, 6 have the best" in shown
    assert "and 5 the worst one last" in shown
    assert shown.endswith("*Question 6?*\n\n- 3 (-1.00): z\n- 2 (+0.00): y\n- 1 (+0.50): x")
    assert shown.count("*Question") == 7


def test_the_pages_show_the_numbers_on_file() -> None:
    assert report.pages(json.loads(report.RESULTS.read_text())) == {
        path: path.read_text() for path in (report.PAGE, report.README, *report.CARDS)
    }

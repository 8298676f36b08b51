"""The experiments on the paper's claims: every script runs, goes on where it stopped, and says what it found.

The smoke settings have a few steps of everything: they show that the scripts run, not that the claims hold.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pytest
from experiments.claims import order_bias, scale, study, summary, workshop
from experiments.claims.study import Study

from gram.demo.world import World
from gram.statistics import over_seeds


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bodies that all smoke runs share."""
    return tmp_path_factory.mktemp("claims")


@pytest.mark.experiments
@pytest.mark.parametrize("name", summary.CLAIMS)
def test_smoke(name: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One result a cell, each accuracy a share; asked again, nothing is run; the table has every number."""
    chosen_study, output = summary.study(name), tmp_path / "results.jsonl"
    arguments = ["--smoke", "--output", str(output), "--models", str(models)]
    results = study.main(chosen_study, None, arguments)
    cells = chosen_study.cells(True)
    assert len(results) == len(cells)
    for cell, result in zip(cells, results, strict=True):
        assert cell.items() <= result.items() and result["seed"] == chosen_study.seeds[0]
        accuracies = [result[key] for key in ("seen", "unseen", "new") if key in result]
        assert accuracies and all(0 <= value <= 1 for value in accuracies)
    before = output.read_bytes()
    capsys.readouterr()
    assert study.main(chosen_study, None, arguments) == results
    assert output.read_bytes() == before
    table = capsys.readouterr().out
    assert all(
        f"{result[key]:.3f}" in table for result in results for key in ("unseen", "new") if key in result
    )


@pytest.mark.parametrize("name", summary.CLAIMS)
def test_a_full_setting_has_enough_seeds(name: str) -> None:
    assert len(summary.study(name).seeds) >= (5 if name == "generative_or_discriminative" else 3)


def test_a_stopped_study_goes_on(tmp_path: Path) -> None:
    """Killed in its second cell, it has kept the first; restarted, it runs the second and third only."""
    ran: list[int] = []

    def run(cell: dict[str, Any], models: Path, smoke: bool) -> dict[str, Any]:
        if len(ran) == 1 and not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        ran.append(cell["x"])
        return {"value": float(cell["x"])}

    cells = [{"x": x} for x in range(3)]
    toy = Study("toy", (1,), lambda _: cells, run, lambda r: str(len(r)), lambda r: {}, lambda r, p: None)
    arguments = ["--output", str(tmp_path / "toy.jsonl")]
    with pytest.raises(KeyboardInterrupt):
        study.main(toy, None, arguments)
    results = study.main(toy, None, arguments)
    assert ran == [0, 1, 2] and [result["x"] for result in results] == [0, 1, 2]


def test_intervals_over_seeds_by_hand() -> None:
    """1, 2, 3: mean 2, standard deviation 1, half width 4.30 / sqrt(3)."""
    estimate = over_seeds([1.0, 2.0, 3.0])
    assert estimate.value == 2.0
    assert estimate.high - 2.0 == pytest.approx(4.30 / math.sqrt(3))
    assert math.isnan(over_seeds([1.0]).low)


def test_differences_are_paired_by_seed() -> None:
    results = [
        {"seed": 2, "m": "a", "x": 0.9},
        {"seed": 1, "m": "a", "x": 0.5},
        {"seed": 1, "m": "b", "x": 0.4},
        {"seed": 2, "m": "b", "x": 0.6},
        {"seed": 3, "m": "b", "x": 0.0},
    ]
    assert study.paired(results, "x", {"m": "a"}, {"m": "b"}) == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize(
    ("differences", "wanted"),
    [
        ({"one": [0.1, 0.1, 0.11], "two": [0.2, 0.2, 0.21]}, "held"),
        ({"one": [0.1, 0.1, 0.11], "two": [-0.2, 0.2, 0.0]}, "partly"),
        ({"one": [-0.1, -0.1, -0.1]}, "did not hold"),
        ({"one": [0.1, 0.1, 0.1], "two": [0.1]}, "not run yet"),
    ],
)
def test_verdicts(differences: dict[str, list[float]], wanted: str) -> None:
    assert summary.verdict(differences) == wanted


def test_flipped_labels() -> None:
    """Of 2,000 labels a fifth, give or take 4 standard deviations of 18; the same ones every time."""
    labels = World(3).preferences(2000, split="train")
    noisy = workshop.flipped(labels, 0.2, seed=1)
    turned = sum(one.p_a != other.p_a for one, other in zip(labels, noisy, strict=True))
    assert 328 <= turned <= 472
    assert noisy == workshop.flipped(labels, 0.2, seed=1)
    assert workshop.flipped(labels, 0.0, seed=1) == labels


def test_better_first() -> None:
    """The same comparisons, the better answer first in eight of ten (2,000: within 4 deviations of 18)."""
    labels = World(3).preferences(2000, split="train")
    shown = order_bias.better_first(labels, 0.8, seed=1)
    assert 1528 <= sum(label.p_a > 0.5 for label in shown) <= 1672
    assert all(new in (old, old.swapped()) for new, old in zip(shown, labels, strict=True))


def test_the_fitted_curve_finds_a_power_law() -> None:
    """2 + 50 x^-0.5, seen at four places, without noise."""
    x = [100.0, 400.0, 1600.0, 6400.0]
    floor, factor, power = scale.fitted(x, [2 + 50 * value**-0.5 for value in x])
    assert (floor, factor, power) == pytest.approx((2.0, 50.0, 0.5), rel=0.02)


def test_pages_are_what_the_results_say() -> None:
    """README and docs/claims.md hold the tables that the results on file give."""
    for path, text in summary.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"run python -m experiments.claims.summary ({path})"


@pytest.mark.parametrize("name", summary.CLAIMS)
def test_a_script_says_what_was_measured(name: str) -> None:
    """Its docstring has the verdict, the first statement with its interval, and the cost, as the page has."""
    module = importlib.import_module(f"experiments.claims.{name}")
    docstring = " ".join((module.__doc__ or "").split())
    results = study.read(study.RESULTS / f"{name}.jsonl")
    statements = module.STUDY.statements(results)
    first = next(iter(statements))
    minutes = math.ceil(sum(result["cpu_seconds"] for result in results) / 60)
    assert (
        f"Measured: {summary.verdict(statements)}; {first}: {summary.difference(statements[first])}."
        in docstring
    )
    assert f"Cost: {minutes} minutes of one core." in docstring


def test_results_come_with_their_cost() -> None:
    for name in summary.CLAIMS:
        results = study.read(study.RESULTS / f"{name}.jsonl")
        assert all(result["cpu_seconds"] > 0 for result in results)

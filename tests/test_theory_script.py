"""The script that draws docs/theory.md: it runs, and what it draws on each other is equal."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "theory.py"


@pytest.fixture(scope="module")
def theory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("theory", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_draws(
    theory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "new" / "theory.png"
    monkeypatch.setattr(sys, "argv", ["theory.py", "--output", str(picture), "--smoke"])
    theory.main()
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 50_000
    gaps = json.loads(capsys.readouterr().out)["largest_gaps"]
    assert gaps.keys() == {"loss", "gradient", "gradient_at_optimum"}
    assert max(gaps.values()) < 1e-12


def test_the_gaps_would_show_a_difference(theory: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's parameter in place of eps (half as much smoothing) the two forms part."""
    halved = theory.smoothed_ranking_loss
    monkeypatch.setattr(theory, "smoothed_ranking_loss", lambda d, q, eps: halved(d, q, eps / 2))
    gaps = theory.largest_gaps(torch.linspace(-4, 8, 13, dtype=torch.float64))
    assert gaps["loss"] == pytest.approx(0.1 * 8) and gaps["gradient"] == pytest.approx(0.1)


def test_the_mass_term(theory: ModuleType) -> None:
    """-log m, and 1 - m, of whatever mass the labels have."""
    mass, added, pushed = theory.mass_term(torch.tensor([2.0, 0.0, -5.0], dtype=torch.float64))
    torch.testing.assert_close(added, -mass.log())
    torch.testing.assert_close(pushed, 1 - mass)
    assert mass[0] < 0.1 and mass[2] > 0.9

"""The demonstration, quickly: that its story holds together; experiments/ has its final numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import gram
from gram.cli.main import main
from gram.demo.story import METHODS
from gram.demo.world import World


@pytest.mark.slow
def test_the_quick_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, one JSON line with every promised field, a page that needs nothing else, a model that ranks.

    200 steps of stage 1 are enough to know the facts of all families, so the likelihood must rank right
    everywhere, and its choice among 8 answers must beat a random one (mean gold (0.99 + 0.25) / 2 = 0.62).
    """
    output = tmp_path / "demo"
    assert main(["demo", "--quick", "--seed", "0", "--output", str(output)]) == 0
    captured = capsys.readouterr()
    [line] = captured.out.splitlines()
    result = json.loads(line)
    assert {"seconds", "seed", "accuracy", "best_of_n", "report"} <= result.keys()
    assert set(result["accuracy"]) == set(METHODS)
    assert all(set(row) == {"seen", "unseen"} for row in result["accuracy"].values())
    assert min(result["accuracy"]["likelihood"].values()) >= 0.9
    chosen = {name: curve["8"] for name, curve in result["best_of_n"].items()}
    assert chosen["likelihood"] >= chosen["random"] + 0.2
    assert chosen["best possible"] >= max(value for name, value in chosen.items() if name != "best possible")

    page = Path(result["report"]).read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 3
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert all(name in page for name in METHODS)
    for name in ("accuracy", "labels", "best_of_n"):
        assert (output / f"{name}.png").stat().st_size > 10_000
    assert "never labeled" in captured.err

    world = World(0)
    contest = world.contests(1, world.unseen_families, candidates=4)[0]
    ranking = gram.rank(gram.load(result["model"]), contest.prompt, contest.responses)
    assert sorted(ranking.order) == [0, 1, 2, 3] and ranking.comparisons == 6

"""The measurements behind docs/decisions.md run, and sort what a profile holds; not how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from experiments.engine_choices.__main__ import PARTS, main
from experiments.engine_choices.profiles import group_of
from experiments.engine_choices.setting import UPDATE, switched
from experiments.engine_choices.tries import BLOCK

from gram.engine import attention, tree, trie


def test_groups_of_operations() -> None:
    """By what it runs under, then by the vocabulary of 50 in its inputs, then by name."""
    cases: list[tuple[str, list[Any], set[str], str]] = [
        ("aten::mm", [[7, 8], [8, 9]], {"aten::linear"}, "products"),
        ("aten::mm", [[7, 8], [8, 50]], {"aten::linear"}, "vocabulary"),
        ("aten::fill_", [[50, 8], []], {"aten::zeros"}, "vocabulary"),
        ("aten::mul_", [[50, 8], []], {UPDATE}, UPDATE),
        ("aten::where", [[3, 4]], {"aten::scaled_dot_product_attention"}, "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [], set(), "attention"),
        ("aten::silu", [[7, 8]], set(), "element-wise"),
        ("aten::cat", [[], []], set(), "copying"),
        ("aten::view", [[7, 8]], set(), "other"),
        ("all", [], set(), "other"),
    ]
    assert [group_of(*case[:3], 50) for case in cases] == [case[3] for case in cases]


def test_all_parts_that_need_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made-up texts. Losses and verdicts agree; long runs are rarer, small packs more; shares add up."""
    file = tmp_path / "new" / "found.json"
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler there
    monkeypatch.delenv("CXX", raising=False)
    main(["--smoke", "--rounds", "1", "--output", str(file)])
    results = json.loads(file.read_text(encoding="utf-8"))
    assert list(results) == list(PARTS)
    assert all(entry["torch"] and entry["cpu"] and entry["data"] == "made up" for entry in results.values())
    rows = {part: entry["rows"] for part, entry in results.items()}
    assert rows["compile"] == {"skipped": "no C++ compiler is at hand"}
    for shape in ("small", "wide"):
        assert max(rows["losses"][shape]["gradient_off_by"].values()) < 1e-4
        assert set(rows["losses"][shape]["ratio_to_ours"]) == {"torch", "full"}
    assert rows["losses"]["bf16"]["dtype"]["ours"] == "torch.float32"
    for name in ("W1", "W2 n=3", "W3 G=3"):
        held = rows["shared"][name]["packed"]
        assert held["16"]["tokens"] >= held["4"]["tokens"] >= held["2"]["tokens"]
        assert held["16"]["nodes"] <= held["4"]["nodes"] <= held["2"]["nodes"]
    budgets, packs = ["4096", "2048", "1024", "512"], rows["packs"]
    assert list(packs["ratio_to_default"]) == budgets
    assert packs["packs"]["512"] > packs["packs"]["4096"] > 0
    counts, tokens = ([packs[key][budget] for budget in budgets] for key in ("packs", "tokens"))
    assert counts == sorted(counts) and tokens == sorted(tokens)
    assert max(packs["logprobs_off_by"].values()) < 1e-4
    assert set(rows["blocks"]) == {f"{shape}, {kind}" for shape in ("small", "wide") for kind in ("W1", "W2")}
    for row in rows["blocks"].values():
        assert set(row["ratio_to_blocks"]) == {"one"} and row["logprobs_off_by"]["one"] < 1e-4
    assert all(rows["blocks"][f"{shape}, W1"]["longer_than_a_block"] > 0 for shape in ("small", "wide"))
    assert set(rows["demo"]) == {"stage 1", "judge", "scalar"}
    assert set(rows["tied"]) == {"small", "wide"}
    assert len(rows["profile"]) == 6
    for row in rows["profile"].values():
        assert sum(share["median"] for share in row["percent"].values()) == pytest.approx(100, abs=0.1)
        assert row["percent"]["products"]["median"] > 0
    main(["--smoke", "--rounds", "1", "--parts", "compile", "--output", str(file), "--seed", "1"])
    again = json.loads(file.read_text(encoding="utf-8"))
    capsys.readouterr()
    main(["--table", "--output", str(file)])
    assert capsys.readouterr().out.count("| small, ") == 3
    assert again["compile"]["seed"] == 1 and again["demo"] == results["demo"]


@pytest.mark.parametrize(("owner", "name"), [(trie, "SHORTEST_SHARED"), (attention, BLOCK), (tree, "tied")])
def test_what_is_switched_is_put_back(owner: Any, name: str) -> None:
    """Also where the path fails. Nothing is switched under a name that the engine does not know."""

    def fail() -> None:
        assert getattr(owner, name) == 9
        raise KeyError

    before = getattr(owner, name)
    with pytest.raises(KeyError):
        switched(owner, name, 9, fail)()
    assert before == getattr(owner, name)
    with pytest.raises(AttributeError):
        switched(owner, name + "_", 9, fail)()


def test_what_measures_nothing_is_not_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--smoke"])
    assert "name another --output" in capsys.readouterr().err

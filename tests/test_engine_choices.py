"""The script behind docs/decisions.md runs, and sorts what a profile holds; not how fast anything is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "engine_choices", ROOT / "experiments" / "engine_choices.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_groups_of_operations(script: ModuleType) -> None:
    """By what it runs under, then by the vocabulary of 50 in its inputs, then by name."""
    cases: list[tuple[str, list[Any], set[str], str]] = [
        ("aten::mm", [[7, 8], [8, 9]], {"aten::linear"}, "products"),
        ("aten::mm", [[7, 8], [8, 50]], {"aten::linear"}, "vocabulary"),
        ("aten::fill_", [[50, 8], []], {"aten::zeros"}, "vocabulary"),
        ("aten::mul_", [[50, 8], []], {script.UPDATE}, script.UPDATE),
        ("aten::where", [[3, 4]], {"aten::scaled_dot_product_attention"}, "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", [], set(), "attention"),
        ("aten::silu", [[7, 8]], set(), "element-wise"),
        ("aten::cat", [[], []], set(), "copying"),
        ("aten::view", [[7, 8]], set(), "other"),
        ("all", [], set(), "other"),
    ]
    assert [script.group_of(*case[:3], 50) for case in cases] == [case[3] for case in cases]


def test_all_parts_that_need_no_compiler(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made-up texts. Losses agree; fewer long runs than short ones are shared; shares add up to all."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    kept = tmp_path / "new" / "found.json"
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler there
    monkeypatch.delenv("CXX", raising=False)
    script.main(["--smoke", "--rounds", "1", "--output", str(kept)])
    found = json.loads(kept.read_text(encoding="utf-8"))
    assert list(found) == list(script.PARTS)
    assert all(entry["torch"] and entry["cpu"] and entry["data"] == "made up" for entry in found.values())
    rows = {part: entry["rows"] for part, entry in found.items()}
    assert rows["compile"] == {"skipped": "no C++ compiler is at hand"}
    for shape in ("small", "wide"):
        assert max(rows["losses"][shape]["gradient_off_by"].values()) < 1e-4
        assert set(rows["losses"][shape]["ratio_to_ours"]) == {"torch", "full"}
    assert rows["losses"]["bf16"]["dtype"]["ours"] == "torch.float32"
    for name in ("W1", "W2 n=3", "W3 G=3"):
        packed = rows["shared"][name]["packed"]
        assert packed["16"]["tokens"] >= packed["4"]["tokens"] >= packed["2"]["tokens"]
        assert packed["16"]["nodes"] <= packed["4"]["nodes"] <= packed["2"]["nodes"]
    assert set(rows["demo"]) == {"stage 1", "judge", "scalar"}
    assert set(rows["tied"]) == {"small", "wide"}
    assert len(rows["profile"]) == 6
    for row in rows["profile"].values():
        assert sum(share["median"] for share in row["percent"].values()) == pytest.approx(100, abs=0.1)
        assert row["percent"]["products"]["median"] > 0
    script.main(["--smoke", "--rounds", "1", "--parts", "compile", "--output", str(kept), "--seed", "1"])
    again = json.loads(kept.read_text(encoding="utf-8"))
    capsys.readouterr()
    script.main(["--table", "--output", str(kept)])
    assert capsys.readouterr().out.count("| small, ") == 3
    assert again["compile"]["seed"] == 1 and again["demo"] == found["demo"]


def test_a_shortest_run_is_put_back(script: ModuleType) -> None:
    def fail() -> None:
        assert script.trie.SHORTEST_SHARED == 9
        raise KeyError

    before = script.trie.SHORTEST_SHARED
    with pytest.raises(KeyError):
        script._sharing(9, fail)()
    assert before == script.trie.SHORTEST_SHARED


def test_what_measures_nothing_is_not_kept(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.main(["--smoke"])
    assert "name another --output" in capsys.readouterr().err

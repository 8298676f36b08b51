"""The bench: what it counts, by hand; that its paths agree; that both commands run. Not how fast."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments.bench_page import PAGE, RESULTS, with_tables
from transformers import AutoModelForCausalLM

from gram.bench import tables, trl_step, workloads
from gram.bench.arithmetic import Cost, Work, padded_tokens, unique
from gram.bench.effort import effort
from gram.bench.measure import Machine, spread
from gram.bench.score import by_length, spaced
from gram.bench.settings import BenchSettings, Precision, ShapeName
from gram.bench.shapes import QUICK, SHAPES, build, twin
from gram.bench.suite import prepare
from gram.bench.workloads import Sizes
from gram.cli.main import main
from gram.engine.heads import output_layer
from gram.errors import DataError
from gram.types import Contest, as_chat

SMALL = ("--quick", "--shape", "small", "--dtype", "fp32", "--rounds", "1")


def contest(name: str, candidates: int) -> Contest:
    return Contest(as_chat(name), tuple(f"{name}: answer {place}" for place in range(candidates)))


# --- Counting ---


def test_unique_tokens_and_what_they_see() -> None:
    """Rows 123, 124, 123 and 5: the trie holds 1, 2, 3, 4, 5, which see 1, 2, 3, 3 and 1 keys."""
    assert unique([[1, 2, 3], [1, 2, 4], [1, 2, 3], [5]]) == (5, 10)


def test_a_row_inside_another_costs_nothing() -> None:
    """Rows 12 and 1234: tokens 1, 2, 3, 4 seeing 1 + 2 + 3 + 4 keys."""
    assert unique([[1, 2, 3, 4], [1, 2]]) == (4, 10)


def test_useful_operations() -> None:
    """4 tokens through 10 weights, twice each, and 1 + 2 + 3 + 3 = 9 pairs of 2 operations: 80 + 18."""
    assert Work(body=10, head=100, pair=2).flops([[1, 2, 3], [1, 2, 4]]) == 98


def test_useful_operations_of_a_step() -> None:
    """Rows 123 and 124 as above: 4 tokens through 10 weights, 9 pairs of 2 operations; 3 scored tokens.

    Forward: products 2 * (4 * 10 + 3 * 100) = 680, attention 18. All weights: 3 * 680 + 3.5 * 18 = 2103.
    With 5 weights of adapters and no scored tokens: 2 * 80 + 3 * 2 * 5 * 4 + 3.5 * 18 = 343.
    """
    work = Work(body=10, head=100, pair=2)
    rows = [[1, 2, 3], [1, 2, 4]]
    assert work.step_flops(rows, scored=3) == 2103
    assert work.step_flops(rows, adapters=5) == 343


def test_ideal_ratio() -> None:
    """(6 * 10 + 6 * 100) / (4 * 10 + 2 * 100) = 660 / 240."""
    assert Work(body=10, head=100, pair=2).ratio(Cost(6, 6), Cost(4, 2)) == 2.75


@pytest.mark.parametrize(
    ("name", "body"),
    [
        # Two layers of four 64 x 64 projections and three 64 x 128: 2 * (16384 + 24576).
        ("small", 81_920),
        # Two key heads of 16: keys and values are 64 x 32 each: 2 * (2 * 4096 + 2 * 2048 + 24576).
        ("wide", 73_728),
        # Three layers; nine heads and three key heads of 8: 3 * (2 * 72 * 72 + 2 * 72 * 24 + 3 * 72 * 192).
        ("real", 165_888),
        # Heads of 32, not of 64 / 4: 2 * (2 * 64 * 128 + 2 * 64 * 64 + 3 * 64 * 192).
        ("0.6b", 122_880),
    ],
)
def test_weights_of_a_model(name: str, body: int) -> None:
    """Head: vocabulary x width. One query and key: in each head a product and a sum for score and value."""
    shape = QUICK[name]  # type: ignore[index]
    work = Work.of(build(shape, dtype=torch.float32, device="cpu", seed=0))
    pair = {"small": 2 * 4 * 16 * 4, "wide": 2 * 4 * 16 * 4, "real": 3 * 9 * 8 * 4, "0.6b": 2 * 4 * 32 * 4}
    assert work == Work(body=body, head=shape.hidden * shape.vocabulary, pair=pair[name])


def test_the_real_shapes() -> None:
    """Embedding, layers with their norms, last norm: 134,515,008 weights, as SmolLM2-135M; 0.6b 596,049,920.

    real: 49152 * 576 + 30 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576) + 576. 0.6b, whose
    queries and keys have norms of a head's width: 151936 * 1024 + 28 * (2 * 1024 * 2048 + 2 * 1024 * 1024 +
    3 * 1024 * 3072 + 2 * 1024 + 2 * 128) + 1024.
    """
    for name, weights in (("real", 134_515_008), ("0.6b", 596_049_920)):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(SHAPES[name].config())  # type: ignore[index]
        assert sum(parameter.numel() for parameter in model.parameters()) == weights


def test_padding() -> None:
    """Batches 3, 1 and 2: 2 rows of 3, and 1 of 2."""
    assert padded_tokens([3, 1, 2], [[0, 1], [2]]) == 8
    assert by_length([3, 1, 2], 2) == [[1, 2], [0]]
    assert spaced([0, 1, 2, 3, 4], 3) == [0, 2, 4]
    assert spaced([0, 1], 3) == [0, 1]


# --- Workloads ---


def test_sizes_of_the_workloads() -> None:
    """Pairs, each in both orders: W1 5; W2 2 prompts of 4 * 3 / 2; W3 3 groups of 4; W4 one ring of 5."""
    contests = [contest(f"q{number}", 6) for number in range(7)]
    sizes = Sizes(independent=5, best_of={4: 2}, groups={4: 3}, ring=5)
    one, two, three, four = workloads.scoring(contests, sizes, seed=0)
    assert [len(w.pairs) for w in (one, two, three, four)] == [5, 12, 12, 5]
    assert [w.decision for w in (one, two, three, four)] == [False, False, False, True]
    assert len({pair.prompt for pair in four.pairs}) == 1
    assert [pair.b for pair in four.pairs] == [pair.a for pair in (*four.pairs[1:], four.pairs[0])]
    assert len({pair.a for pair in four.pairs}) == 5
    assert len({pair.prompt for pair in one.pairs}) == 5
    assert len({frozenset((pair.a, pair.b)) for pair in two.pairs}) == 12
    for start in range(0, 12, 4):
        group = three.pairs[start : start + 4]
        assert len({pair.prompt for pair in group}) == len({pair.b for pair in group}) == 1
        assert len({pair.a for pair in group}) == 4


def test_what_a_prompt_lacks_is_filled_up_with_other_answers() -> None:
    contests = [contest("q", 3), contest("r", 2), contest("s", 2)]
    [_, best, _] = workloads.scoring(contests, Sizes(1, {6: 1}, {}, ring=3), seed=0)
    texts = {text for pair in best.pairs for text in (pair.a, pair.b)}
    assert len(texts) == 6 and len(best.pairs) == 15
    with pytest.raises(DataError, match="fewer than 8 different answers in all"):
        workloads.scoring(contests, Sizes(1, {}, {}, ring=8), seed=0)


def test_workloads_have_streams_of_their_own() -> None:
    contests = [contest(f"q{number}", 8) for number in range(9)]
    alone = workloads.scoring(contests, Sizes(2, {4: 1}, {}), seed=3)
    among_others = workloads.scoring(contests, Sizes(2, {8: 1, 4: 1}, {4: 1}), seed=3)
    assert alone == [among_others[0], among_others[2], among_others[4]]
    assert workloads.scoring(contests, Sizes(2, {4: 1}, {}), seed=4) != alone


def test_answers_from_a_folder(tmp_path: Path) -> None:
    """Equal answers count once; a prompt left with one, or with answers too long to read, is not taken."""
    rows = [
        {"prompt": "good", "responses": ["x", "y", "x"]},
        {"prompt": "one", "responses": ["x", "x"]},
        {"prompt": "long", "responses": ["x" * 3000, "y" * 3000]},
    ]
    with gzip.open(tmp_path / "some.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    [only], source = workloads.pool(str(tmp_path), seed=0)
    assert (only.prompt[0].content, only.responses, source) == ("good", ("x", "y"), "some.jsonl.gz")
    with pytest.raises(DataError, match=r"holds no \*\.jsonl\.gz"):
        workloads.pool(str(tmp_path.parent / tmp_path.name / ".."), seed=0)


def test_answers_that_nobody_names_are_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies beside the folder in which the command is given."""
    (tmp_path / "shared" / "data" / "bon").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert workloads.pool(None, seed=0) == (workloads.made_up(200, seed=0), "made up")


def test_made_up_answers() -> None:
    """Log-normal around 110 words with sigma 0.5, cut at 350: the median of 600 is within 10 of 110."""
    contests = workloads.made_up(50, seed=0)
    words = [len(answer.split()) for c in contests for answer in c.responses]
    assert len(contests) == 50 and len(words) == 600
    assert abs(np.median(words) - 110) < 10 and max(words) <= 350
    assert workloads.made_up(50, seed=0) == contests


@pytest.mark.parametrize(
    ("settings", "shape", "dtype", "expected"),
    [
        ({}, "small", "fp32", (3, 4, 2, 12)),
        ({}, "real", "bf16", (3, 2, 1, 4)),
        ({}, "real", "fp32", (1, 2, 1, 4)),
        ({"rounds": 5, "pairs": 7, "steps": 3}, "real", "fp32", (5, 7, 3, 4)),
        ({"device": "cuda"}, "real", "fp32", (3, 4, 2, 64)),
        ({"quick": True}, "0.6b", "fp32", (3, 4, 2, 4)),
    ],
)
def test_a_large_model_gets_less_on_a_cpu(
    settings: dict[str, Any], shape: ShapeName, dtype: Precision, expected: tuple[int, int, int, int]
) -> None:
    """Rounds, pairs in a step, steps in a round and pairs of W1; what is named counts."""
    plan = effort(BenchSettings(**settings), shape, dtype)
    assert (plan.rounds, plan.pairs, plan.steps, plan.sizes.independent) == expected


def test_bf16_comes_first_and_the_model_for_a_gpu_on_demand_only() -> None:
    assert BenchSettings().dtypes == ("bf16", "fp32")
    assert BenchSettings().shapes == ("small", "wide", "real")
    assert BenchSettings(shape="0.6b").shapes == ("0.6b",)


@pytest.mark.parametrize("tokens", [150, 300, 700])
def test_prompts_of_a_named_length(tokens: int) -> None:
    """On average over all pairs, within a tenth; one word is one token."""
    contests, source, renderer, _ = prepare(BenchSettings(prompt_tokens=tokens))
    prompts = renderer.judge(workloads.independent_pairs(contests, len(contests), seed=1))
    assert source == "made up"
    assert abs(np.mean([len(prompt.ids) for prompt in prompts]) - tokens) < 0.1 * tokens


# --- Measuring ---


def test_paths_take_turns() -> None:
    """Two rounds of a, b; b says itself that it took 0.25 s."""
    order: list[str] = []

    def a() -> str:
        order.append("a")
        return "done"

    def b() -> float:
        order.append("b")
        return 0.25

    timings = Machine("cpu").in_turn({"a": a, "b": b}, rounds=2)
    assert order == ["a", "b", "a", "b"]
    assert timings["a"].result == "done" and len(timings["a"].seconds) == 2
    assert timings["b"].seconds == [0.25, 0.25]


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_peak_memory_is_what_was_taken_in_between() -> None:
    """80 MB of float32 are held and given back; the growth before it does not count."""
    ballast = torch.ones(10_000_000)
    machine = Machine("cpu")
    timing = machine.in_turn({"path": lambda: float(torch.ones(20_000_000).sum() > 0)}, rounds=2)["path"]
    assert timing.memory is not None and 79 < timing.memory < 100
    assert len(ballast) == 10_000_000


def test_ratios_are_taken_round_by_round() -> None:
    """4/2, 9/3 and 5/5."""
    assert spread([4, 9, 5], [2, 3, 5]) == {"median": 2, "low": 1, "high": 3}


@pytest.mark.parametrize("name", list(QUICK))
def test_a_twin_has_the_same_weights(name: str) -> None:
    """A gradient of one is a gradient of the other, and the same tokens give the same numbers."""
    model = build(QUICK[name], dtype=torch.float32, device="cpu", seed=0)  # type: ignore[index]
    other = twin(model)
    assert [id(p) for p in other.parameters()] == [id(p) for p in model.parameters()]
    assert output_layer(other).weight is other.get_input_embeddings().weight  # type: ignore[union-attr]
    ids = torch.arange(12)[None]
    torch.testing.assert_close(other(ids).logits, model(ids).logits)
    scorer = twin(model, classifier=True)
    mine = {id(p) for p in model.parameters()}
    assert [n for n, p in scorer.named_parameters() if id(p) not in mine] == ["score.weight"]


# --- The commands ---


def test_bench_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line per workload; ours agrees with prompts asked one by one, and they differ."""
    numbers, picture = tmp_path / "new" / "numbers.json", tmp_path / "bars.png"
    assert main(["bench", "score", *SMALL, "--output", str(numbers), "--plot", str(picture)]) == 0
    *table, line = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert sum(text.startswith("| W") for text in table) == 8  # what was measured, and where the time went
    assert json.loads(numbers.read_text(encoding="utf-8")) == result
    assert picture.stat().st_size > 5_000
    assert [row["workload"] for row in result["rows"]] == ["W1", "W2 n=4", "W3 G=3", "W4 n=3"]
    assert [row["prompts"] for row in result["rows"]] == [8, 12, 6, 6]  # 4, 6, 3 and 3 pairs in both orders
    for row in result["rows"]:
        assert row["engine"] == "tree"
        assert max(row["max_dp"].values()) < 1e-5
        assert row["p_spread"] > 0.01
        peers = {"last", "reference", "plain"} | ({"decision"} if row["workload"] == "W4 n=3" else set())
        assert set(row["ratio"]) == peers and row["notes"] == {}
        assert row["ideal"]["reference"] > row["ideal"]["last"] > 1
        assert row["tokens"]["unique"] <= row["tokens"]["packs"] < row["tokens"]["prompts"]
        assert 0 < row["fraction"] < 1.5
        assert row["tokens_per_second"] == pytest.approx(
            row["tokens"]["unique"] / row["seconds"]["ours"], rel=2e-3
        )
        assert row["gflops"] == pytest.approx(row["fraction"] * row["ceiling_gflops"], rel=2e-3)
        assert sum(row["profile"].values()) == pytest.approx(1, abs=2e-3)


def test_bench_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Gradients agree with the plain path, full logits and PEFT's; without TRL its column says so."""
    monkeypatch.setattr("gram.bench.train.trl_is_there", lambda: False)
    assert main(["bench", "train", *SMALL, "--pairs", "2", "--steps", "1", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    two, low_rank, one = rows = json.loads(line)["rows"]
    assert [row["task"] for row in rows] == ["stage 2", "stage 2, LoRA", "stage 1"]
    assert [row["unit"] for row in rows] == ["pair", "pair", "token"]
    assert two["notes"] == {"trl": "trl not installed"}
    assert "trl not installed" in tables.train_table([two])
    for row, peers in ((two, {"plain", "full"}), (low_rank, {"hf"}), (one, {"plain", "full"})):
        assert set(row["ratio"]) == set(row["gradient_difference"]) == peers
        assert max(row["gradient_difference"].values()) < 1e-5
        assert row["ideal"]["hf" if row is low_rank else "full"] > 1
        assert row["gflops"] == pytest.approx(row["fraction"] * row["ceiling_gflops"], rel=2e-3)
    # Seven linear layers in each of two: 16 * (4 * (64 + 64) + 3 * (64 + 128)) weights of adapters a layer.
    assert low_rank["gradients_mb"] == pytest.approx(4 * 2 * 16 * 1088 / 1e6, rel=2e-3)


@pytest.mark.skipif(not trl_step.trl_is_there(), reason="needs trl")
def test_bench_train_beside_trl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", *SMALL, "--pairs", "2", "--steps", "2", "--json"]) == 0
    two = json.loads(capsys.readouterr().out)["rows"][0]
    assert two["ratio"]["trl"]["median"] > 0
    assert two["tokens"]["trl"] > 0 and two["notes"] == {}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("score", "--rounds", "0"), "rounds must be at least 1"),
        (("score", "--prompt-tokens", "40"), "prompt_tokens must be at least"),
        (("score", "--prompt-tokens", "300", "--data", "x.jsonl"), "prompt_tokens: texts of --data"),
        (("score", "--data", "nowhere.jsonl"), "nowhere.jsonl: no such file or folder"),
        (("score", "--output", "."), "is a folder"),
    ],
)
def test_bench_refuses(arguments: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments, "--quick"]) == 1
    streams = capsys.readouterr()
    assert reason in streams.err and streams.out == ""


def test_bench_knows_two_things(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "evaluate"]) == 2
    streams = capsys.readouterr()
    assert "score" in streams.err and "train" in streams.err and streams.out == ""


# --- The page ---


def test_the_tables_of_a_run_go_into_the_page(tmp_path: Path) -> None:
    """Between their marks, whatever stood there; numbers of an earlier layout are refused."""
    row = {
        "workload": "W1",
        "shape": "real",
        "dtype": "bf16",
        "vocabulary": 49_152,
        "seconds": {"ours": 2.0},
        "tokens_per_second": 1500.0,
        "gflops": 320.0,
        "fraction": 0.4,
        "to_fp32": 2.75,
        "ratio": {"last": {"median": 1.5}},
        "ideal": {"last": 2.0},
        "memory_mb": {"ours": 3.0},
        "max_dp": {"ours": 0.02},
        "profile": {"products": 0.5, "attention": 0.2, "elementwise": 0.15, "copies": 0.1, "rest": 0.05},
        "notes": {},
    }
    (tmp_path / "score.json").write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    page = "before\n<!-- score -->\nold\n<!-- end score -->\nafter"
    found = with_tables(page, {"score": tmp_path / "score.json"})
    assert "| W1 | real, 49k, bf16 | 2.00 | 1500 | 320 | 0.40 | 2.75 | 1.50 (2.00) |" in found
    assert "| W1 | real, 49k, bf16 | 50 | 20 | 15 | 10 | 5 |" in found
    assert "old" not in found and found.startswith("before") and found.endswith("after")
    row.pop("profile")
    (tmp_path / "score.json").write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"score\.json: of an earlier gram bench; measure again"):
        with_tables(page, {"score": tmp_path / "score.json"})


def test_the_page_has_the_tables_on_file() -> None:
    page = PAGE.read_text(encoding="utf-8")
    if any("profile" not in path.read_text(encoding="utf-8") for path in RESULTS.values()):
        pytest.skip("measured by an earlier gram bench: its tables stay until the next measurement")
    assert with_tables(page, RESULTS) == page

"""The bench: what it counts, by hand; that its paths agree; that both commands run. Not how fast."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gram.bench import tables, trl_step, workloads
from gram.bench.arithmetic import Cost, Work, padded_tokens, unique
from gram.bench.measure import Machine, spread
from gram.bench.score import by_length, spaced
from gram.bench.shapes import QUICK, build, twin
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
    ],
)
def test_weights_of_a_model(name: str, body: int) -> None:
    """Head: vocabulary x 64. One query and key: 4 heads of 16, a product and a sum for score and value."""
    shape = QUICK[name]  # type: ignore[index]
    work = Work.of(build(shape, dtype=torch.float32, device="cpu", seed=0))
    assert work == Work(body=body, head=64 * shape.vocabulary, pair=2 * 4 * 16 * 4)


def test_padding() -> None:
    """Batches 3, 1 and 2: 2 rows of 3, and 1 of 2."""
    assert padded_tokens([3, 1, 2], [[0, 1], [2]]) == 8
    assert by_length([3, 1, 2], 2) == [[1, 2], [0]]
    assert spaced([0, 1, 2, 3, 4], 3) == [0, 2, 4]
    assert spaced([0, 1], 3) == [0, 1]


# --- Workloads ---


def test_sizes_of_the_workloads() -> None:
    """Pairs, each asked in both orders: W1 5; W2 2 prompts of 4 * 3 / 2; W3 3 groups of 4."""
    contests = [contest(f"q{number}", 6) for number in range(7)]
    sizes = Sizes(independent=5, best_of={4: 2}, groups={4: 3})
    one, two, three = workloads.scoring(contests, sizes, seed=0)
    assert [len(w.pairs) for w in (one, two, three)] == [5, 12, 12]
    assert len({pair.prompt for pair in one.pairs}) == 5
    assert len({frozenset((pair.a, pair.b)) for pair in two.pairs}) == 12
    for start in range(0, 12, 4):
        group = three.pairs[start : start + 4]
        assert len({pair.prompt for pair in group}) == len({pair.b for pair in group}) == 1
        assert len({pair.a for pair in group}) == 4


def test_what_a_prompt_lacks_is_filled_up_with_other_answers() -> None:
    contests = [contest("q", 3), contest("r", 2), contest("s", 2)]
    [_, best] = workloads.scoring(contests, Sizes(1, {6: 1}, {}), seed=0)
    texts = {text for pair in best.pairs for text in (pair.a, pair.b)}
    assert len(texts) == 6 and len(best.pairs) == 15


def test_workloads_have_streams_of_their_own() -> None:
    contests = [contest(f"q{number}", 8) for number in range(9)]
    alone = workloads.scoring(contests, Sizes(2, {4: 1}, {}), seed=3)
    among_others = workloads.scoring(contests, Sizes(2, {8: 1, 4: 1}, {4: 1}), seed=3)
    assert alone == [among_others[0], among_others[2]]
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


@pytest.mark.parametrize("name", ["small", "wide"])
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
    assert sum(text.startswith("| W") for text in table) == 3
    assert json.loads(numbers.read_text(encoding="utf-8")) == result
    assert picture.stat().st_size > 5_000
    assert [row["workload"] for row in result["rows"]] == ["W1", "W2 n=4", "W3 G=3"]
    assert [row["prompts"] for row in result["rows"]] == [8, 12, 6]  # 4, 6 and 3 pairs in both orders
    for row in result["rows"]:
        assert row["engine"] == "tree"
        assert max(row["max_dp"].values()) < 1e-5
        assert row["p_spread"] > 0.01
        assert set(row["ratio"]) == {"last", "reference", "plain"}
        assert row["ideal"]["reference"] > row["ideal"]["last"] > 1
        assert row["tokens"]["unique"] <= row["tokens"]["packs"] < row["tokens"]["prompts"]
        assert 0 < row["fraction"] < 1.5


def test_bench_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Gradients agree with the plain path and with full logits; without TRL its column says so."""
    monkeypatch.setattr("gram.bench.train.trl_is_there", lambda: False)
    assert main(["bench", "train", *SMALL, "--pairs", "2", "--steps", "1", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    two, one = json.loads(line)["rows"]
    assert (two["task"], two["unit"], one["task"], one["unit"]) == ("stage 2", "pair", "stage 1", "token")
    assert two["notes"] == {"trl": "trl not installed"}
    assert "trl not installed" in tables.train_table([two])
    for row in (two, one):
        assert set(row["ratio"]) == {"plain", "full"}
        assert max(row["gradient_difference"].values()) < 1e-5
        assert row["ideal"]["full"] > 1


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

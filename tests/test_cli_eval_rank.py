"""``gram eval`` and ``gram rank`` as commands: what they write, and that a killed run goes on."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import make_preferences, run
from gram.cli import eval as eval_command
from gram.cli.main import main
from gram.evaluation import runner
from gram.journal import Journal
from gram.types import Preference


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chosen_rejected(preferences: list[Preference], split: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}-{item.id}",
            "prompt": [{"role": turn.role, "content": turn.content} for turn in item.pair.prompt],
            "chosen": item.pair.a,
            "rejected": item.pair.b,
            "subset": f"part {number % 2}",
            "split": split,
        }
        for number, item in enumerate(preferences)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """20 rows to learn the bag of words from, 12 to judge."""
    preferences = make_preferences(32, seed=7)
    rows = chosen_rejected(preferences[:20], "train") + chosen_rejected(preferences[20:], "test")
    return write_rows(tmp_path / "pairs.jsonl", rows)


def test_eval_reports_accuracy_beside_the_floors(
    judge_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accuracy of the command is the share of rows that ``gram.load`` itself gets right."""
    output = tmp_path / "report"
    code, result, _ = run(
        capsys, "eval", "--model", judge_folder, "--data", data, "--split", "test", "--output", output
    )
    assert code == 0
    preferences = make_preferences(32, seed=7)[20:]
    p_a = gram.load(judge_folder).compare([item.pair for item in preferences]).p_a
    assert result["rows"] == 12
    assert result["accuracy"]["value"] == pytest.approx(float((p_a > 0.5).mean()))
    assert result["accuracy"]["low"] <= result["accuracy"]["value"] <= result["accuracy"]["high"]
    longer = sum(
        (len(i.pair.a) > len(i.pair.b)) + 0.5 * (len(i.pair.a) == len(i.pair.b)) for i in preferences
    )
    assert result["floors"]["length"]["value"] == pytest.approx(longer / 12)
    assert set(result["floors"]) == {"length", "bag of words"}
    records = read_rows(output / "records.jsonl")
    assert [record["id"] for record in records] == [f"test-{item.id}" for item in preferences]
    report = (output / "report.md").read_text()
    assert "part 0" in report and "95% interval" in report and "bag of words" in report
    assert json.loads((output / "results.json").read_text())["overall"]["n"] == 12


def test_a_bad_row_does_not_take_the_training_rows_away(
    judge_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A torn line may be of any split; skipped, it leaves the floor that its 20 good training rows teach.

    A training row that cannot be used stops the command before a model is asked, as any other.
    """
    options = ["eval", "--model", judge_folder, "--split", "test", "--data"]
    _, good, _ = run(capsys, *options, data, "--output", tmp_path / "good")
    torn = tmp_path / "torn" / data.name
    torn.parent.mkdir()
    torn.write_text(data.read_text() + '{"prompt": "wh\n')
    code, result, err = run(capsys, *options, torn, "--on-error", "skip", "--output", tmp_path / "skipped")
    assert code == 0 and result["rejected"] == 1, err
    assert result["floors"] == good["floors"]
    alone = write_rows(tmp_path / "alone.jsonl", chosen_rejected(make_preferences(12), "test"))
    _, without, _ = run(capsys, *options, alone, "--output", tmp_path / "without")
    assert set(without["floors"]) == {"length", "bag of words"}

    rows = read_rows(data)
    rows[3]["rejected"] = rows[3]["chosen"]
    write_rows(torn, rows)
    code, _, err = run(capsys, *options, torn, "--output", tmp_path / "stopped")
    assert code == 1 and "pairs.jsonl:4: field 'rejected'" in err
    assert not (tmp_path / "stopped" / "records.jsonl").exists()
    code, _, _ = run(capsys, *options, torn, "--on-error", "skip", "--output", tmp_path / "stopped")
    [reject] = read_rows(tmp_path / "stopped" / "pairs.train.rejects.jsonl")
    assert code == 0 and reject["line"] == 4


def test_no_floor_is_taught_on_what_it_judges(
    judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows without a split belong to every split: asked for one, the floor is as without."""
    data = write_rows(
        tmp_path / "rows.jsonl",
        [
            {key: value for key, value in row.items() if key != "split"}
            for row in chosen_rejected(make_preferences(20), "test")
        ],
    )
    options = ["eval", "--model", judge_folder, "--data", data, "--output"]
    _, whole, _ = run(capsys, *options, tmp_path / "whole")
    _, split, _ = run(capsys, *options, tmp_path / "split", "--split", "test")
    assert split["floors"] == whole["floors"]


def test_several_sources_are_the_subsets(
    likelihood_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_rows(tmp_path / "other.jsonl", chosen_rejected(make_preferences(6, seed=9), "eval"))
    output = tmp_path / "report"
    code, result, _ = run(
        capsys, "eval", "--model", likelihood_folder, "--data", f"{data}::test", other, "--output", output
    )
    assert code == 0 and result["rows"] == 18
    subsets = json.loads((output / "results.json").read_text())["subsets"]
    assert [(row["subset"], row["n"]) for row in subsets] == [("other", 6), ("pairs", 12)]


def test_one_order_does_not_show_the_chosen_answer_first(
    judge_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With chosen always first, the position bias of a model would pass for accuracy."""
    output = tmp_path / "report"
    code, _, _ = run(
        capsys, "eval", "--model", judge_folder, "--data", data, "--single-order", "--output", output
    )
    assert code == 0
    first = [record["log_odds"][0] is not None for record in read_rows(output / "records.jsonl")]
    assert 0 < sum(first) < len(first)


def test_a_killed_eval_goes_on_to_the_same_bytes(
    judge_folder: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at its third chunk of four, it has kept two, and asks only for the last four rows again."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ["eval", "--model", judge_folder, "--data", data, "--split", "test", "--output"]
    evaluate = runner.evaluate
    asked: list[int] = []

    def in_small_chunks(workers: Any, preferences: Any, **keywords: Any) -> Any:
        model = workers.model
        compare = model.compare

        def counted(pairs: Any) -> Any:
            asked.append(len(pairs))
            if len(asked) == 6:
                raise KeyboardInterrupt
            return compare(pairs)

        model.compare = counted
        return evaluate(workers, preferences, chunk=4, **keywords)

    monkeypatch.setattr(runner, "evaluate", in_small_chunks)
    run(capsys, *options, whole)
    code, _, _ = run(capsys, *options, killed)
    assert code == 130 and len(asked) == 6 and not (killed / "records.jsonl").exists()
    code, result, _ = run(capsys, *options, killed)
    assert code == 0 and result["resumed"] == 8 and len(asked) == 7
    for name in ("records.jsonl", "results.json", "report.md", "report.html", "pairs_outputs.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_rank_orders_every_prompt(
    scalar_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A scalar model's ranking is the order of its scores; n candidates cost n(n-1)/2 comparisons."""
    candidates = [
        ["a short one .", "the bread is old .", "quiet and green"],
        ["music", "silver", "a letter ."],
    ]
    rows = [
        {"id": f"q{number}", "prompt": "what is it ?", "responses": answers}
        for number, answers in enumerate(candidates)
    ]
    source = write_rows(tmp_path / "candidates.jsonl", rows)
    output = tmp_path / "ranked.jsonl"
    code, result, _ = run(capsys, "rank", "--model", scalar_folder, "--input", source, "--output", output)
    assert code == 0 and result["prompts"] == 2 and result["comparisons"] == 6
    model = gram.load(scalar_folder)
    assert isinstance(model, gram.ScalarModel)
    for row, answers in zip(read_rows(output), candidates, strict=True):
        scores = model.score([(gram.Message("user", "what is it ?"),)] * 3, answers)
        assert row["order"] == sorted(range(3), key=lambda place: -scores[place])
        assert row["best"] == answers[row["order"][0]]
        assert len(row["strengths"]) == len(row["stderr"]) == len(row["wins"]) == 3
    assert [row["id"] for row in read_rows(output)] == ["q0", "q1"]
    capsys.readouterr()
    assert main(["rank", "--model", str(scalar_folder), "--input", str(source)]) == 0
    *printed, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert printed == read_rows(output) and summary["prompts"] == 2


def test_rankings_are_printed_where_stdout_has_few_letters(
    scalar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with PYTHONIOENCODING=ascii: JSON's own escapes, which read back as what stood in the input."""
    name = "n\u00e9 \U0001f600"
    source = write_rows(tmp_path / f"{name}.jsonl", [{"id": name, "prompt": "é?", "responses": [name, "b"]}])
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["rank", "--model", str(scalar_folder), "--input", str(source)]) == 0
    output = tmp_path / f"{name}.out"
    assert main(["rank", "--model", str(scalar_folder), "--input", str(source), "--output", str(output)]) == 0
    printed, _, summary = map(json.loads, written.getvalue().decode("ascii").splitlines())
    assert printed["id"] == name and [printed] == read_rows(output) and summary["output"] == str(output)


@pytest.mark.parametrize("command", ["score", "rank", "mine"])
def test_a_run_that_went_on_does_not_know_what_was_cut_before(
    command: str,
    judge_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the first of three rows is too long, and cut in both orders; the run is killed after it."""
    prompts = ["what is it ? " * 60, "what is it ?", "is it green ?"]
    rows = [{"prompt": prompt, "responses": ["the bread .", "the music ."]} for prompt in prompts]
    source = write_rows(tmp_path / "candidates.jsonl", rows)
    monkeypatch.setattr("gram.cli.score._CHUNK", 1)
    monkeypatch.setattr("gram.ranking.rows.CHUNK", 1)
    options = [command, "--model", judge_folder, "--max-length", "96", "--input", source, "--output"]
    _, whole, _ = run(capsys, *options, tmp_path / "whole.jsonl")
    assert (whole["resumed"], whole["truncated_prompts"]) == (0, 2)

    append = Journal.append

    def killed(journal: Journal, records: Any) -> None:
        if journal.done == 1:
            raise KeyboardInterrupt
        append(journal, records)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", killed)
        assert run(capsys, *options, tmp_path / "killed.jsonl")[0] == 130
    _, result, _ = run(capsys, *options, tmp_path / "killed.jsonl")
    assert (result["resumed"], result["truncated_prompts"]) == (1, None)


def test_bad_input_is_named(judge_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = write_rows(tmp_path / "empty.jsonl", [])
    output = tmp_path / "out"
    code, result, err = run(capsys, "eval", "--model", judge_folder, "--data", empty, "--output", output)
    assert code == 1 and not result and "empty.jsonl" in err
    pairs = write_rows(tmp_path / "pairs.jsonl", chosen_rejected(make_preferences(2), "test"))
    code, result, err = run(
        capsys, "rank", "--model", judge_folder, "--input", pairs, "--output", tmp_path / "ranked.jsonl"
    )
    assert code == 1 and "pairs.jsonl:1" in err and "responses" in err
    assert not (tmp_path / "ranked.jsonl").exists()
    assert eval_command.Config.__doc__ and "floors" in eval_command.Config.__doc__

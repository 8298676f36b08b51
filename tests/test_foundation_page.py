"""The page of gram-135m: numbers from stored answers, what it claims, and that it shows what is on file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from experiments.foundation import (
    adaptation,
    attributions,
    best_of_n,
    claims,
    everyday,
    grpo,
    measure,
    report,
    tables,
)
from experiments.foundation.results import NOT_RUN, add
from experiments.foundation.rows import HELD, RINGS
from experiments.foundation.tables import TITLES

SHIPPED = claims.SHIPPED


def answers(right: float, swing: float = 0.0) -> list[dict[str, Any]]:
    """Four rows of each source, of which a share is judged right with log-odds of 1, the others of -1."""
    places = [(ring, source) for ring, rows in RINGS.items() for source in rows.sources]
    return [
        {
            "ring": ring,
            "source": source,
            "id": str(k),
            "group": str(k),
            "subset": f"Any/{(*tables.KINDS, tables.KINDS[0])[k]}",
            "log_odds": [sign + swing, sign - swing],
            **({"mass": 0.25} if swing else {}),
        }
        for ring, source in [(HELD, HELD), *places]
        for k in range(4)
        for sign in [1.0 if k < 4 * right else -1.0]
    ]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Numbers of the model that ships (three of four right), a rival (half) and a floor (a quarter)."""
    said = {
        SHIPPED: answers(0.75, swing=0.5),
        "judge": answers(0.75, swing=0.5),
        claims.RIVAL: answers(0.5),
        "zero_shot_mean": answers(0.75),
        "length_rule": answers(0.25),
    }
    monkeypatch.setattr(report, "read", lambda name, seed=0: said.get(name, []))
    monkeypatch.setattr(report, "MODELS", tmp_path)
    monkeypatch.setattr(report, "KEPT", tmp_path / "kept")
    (tmp_path / "seed-1").mkdir()
    return report.numbers()


def test_numbers_and_tables_of_stored_answers(stored: dict[str, Any], tmp_path: Path) -> None:
    """Three of four right, less two of four, is 0.25, on the same rows."""
    arm = stored["arms"][SHIPPED]
    assert arm["parts"]["headline"][0] == 0.75 and arm["parts"]["headline"][3] == 4
    assert arm["parts"]["chat"][3] == 4 * len(RINGS["chat"].sources)
    assert arm["sources"]["chat"]["hhh"][0] == 0.75
    assert stored["leads"][SHIPPED][claims.RIVAL]["headline"][0] == 0.25
    assert set(stored["leads"]) == {SHIPPED, "judge"}
    assert "| Bradley-Terry, 16,000 labels | +0.250 [" in tables.lead_table(stored, SHIPPED)
    chat = [row.split(" | ") for row in tables.source_table(stored, "chat").splitlines()]
    [of] = [k for k, title in enumerate(chat[0]) if title.startswith("hhh (4)")]
    assert [row[of].strip("| ") for row in chat if TITLES[SHIPPED] in row[0]] == ["0.750"]
    assert tables.short_table(stored).count("\n") == 1 + len(stored["arms"])
    assert all(f"{kind} (" in tables.kinds_table(stored) for kind in tables.KINDS)
    rows = tables.calibration_table(stored).splitlines()
    [judge], [likelihood] = [
        [row for row in rows if f"| {TITLES[name]} |" in row] for name in ("judge", "zero_shot_mean")
    ]
    assert float(judge.split("|")[-3]) != 0, "the two orders differ"
    assert [row.split("|")[-2].strip() for row in (judge, likelihood)] == ["0.250", ""]
    assert tables.seeds_table(stored).count("| 1 |") == len(stored["arms"])
    curve = tables.curve_table(stored).splitlines()
    assert curve[-1].startswith("| Bradley-Terry |  |  | 0.500 [")
    assert not tables.curve(stored, tmp_path / "curve.png"), "no arm ran with all numbers of labels"
    tables.bars(stored, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 10_000


def test_arms_without_answers_on_file_keep_their_numbers(
    stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One arm is asked again, now all right, and another for the first time: only their numbers change, and
    the difference between the two is new."""
    said = {SHIPPED: answers(1.0), "frozen": answers(0.5)}
    monkeypatch.setattr(report, "read", lambda name, seed=0: said.get(name, []))
    found = report.numbers(stored)
    assert list(found["arms"]) == [name for name in TITLES if name in {*stored["arms"], "frozen"}]
    assert found["arms"][SHIPPED]["parts"]["headline"][0] == 1.0
    assert found["arms"]["judge"] == stored["arms"]["judge"]
    assert found["leads"][SHIPPED]["frozen"]["headline"][0] == 0.5
    assert found["leads"][SHIPPED]["judge"] == stored["leads"][SHIPPED]["judge"]
    assert found["seeds"].keys() == stored["seeds"].keys()


def test_what_an_arm_said_is_kept_and_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the folder of runs into the repository; without that folder it is read from there, the same."""
    monkeypatch.setattr(measure, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(measure, "asked", lambda seed=0: tmp_path / f"runs-{seed}" / "asked")
    rows = answers(0.75, swing=0.5)
    for row in rows:
        add(measure.file_of("judge", row["ring"], row["source"], 1), row)
    said = measure.read("judge", 1)
    assert sorted(map(str, said)) == sorted(map(str, rows))
    measure.keep("judge", 1)
    first = measure.kept("judge", 1).read_bytes()
    measure.keep("judge", 1)
    assert measure.kept("judge", 1).read_bytes() == first
    shutil.rmtree(tmp_path / "runs-1")
    assert measure.read("judge", 1) == said and measure.read("judge") == measure.read("easy", 1) == []


def test_arms_that_were_asked_about_other_rows_are_not_compared() -> None:
    one, other = (report.Answers(answers(0.5)[:end]) for end in (-4, -5))
    with pytest.raises(ValueError, match="different rows"):
        one.lead(other, one.headline)


def test_what_was_expected_is_held_against_the_numbers(stored: dict[str, Any]) -> None:
    """0.75 of at least 0.70; nothing over zero-shot; 0.25 over the rival, whose interval begins at 0; 0.50
    over the length rule."""
    rows = claims.expected_table(stored).splitlines()[2:]
    assert [row.split("|")[-2].strip() for row in rows] == ["yes", "no", "no", "yes"]
    assert claims.expected_table(report.EMPTY) == NOT_RUN


def none_on_file(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for study in (adaptation, best_of_n, grpo, everyday):
        monkeypatch.setattr(study, "RESULTS", folder / f"{study.__name__}.jsonl")


def test_a_claim_holds_if_every_interval_lies_above_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    none_on_file(monkeypatch, tmp_path)
    above, around = [0.2, 0.1, 0.3, 9], [0.1, -0.1, 0.3, 9]
    assert claims.outcome({"a": above, "b": above}) == "held"
    assert claims.outcome({"a": above, "b": None}) == "held so far"
    assert claims.outcome({"a": above, "b": around}) == "partly"
    assert claims.outcome({"a": around}) == "did not hold"
    assert claims.outcome({"a": None}) == "not run yet"
    found = report.EMPTY | {"leads": {"likelihood": {"likelihood_no_stage_1": {"headline": above}}}}
    rows = claims.table(claims.statements(found)).splitlines()[2:]
    assert len(rows) == len(claims.ON_ARMS) + 3
    [row] = [row for row in rows if "unlabeled" in row]
    assert (
        "| held so far | likelihood, 4,000 labels, less likelihood, no stage 1: +0.200 [+0.100, +0.300]<br>"
        in row
    )
    assert row.endswith("judge, 4,000 labels, less judge, no stage 1: not run yet |")
    assert sum("| not run yet |  |" in row for row in rows) == len(rows) - 1


def test_arms_without_common_rows_are_compared_by_their_own_intervals() -> None:
    """0.64 (0.04 below, 0.08 above) less 0.66 (0.06 below, 0.03 above), whose errors do not know each other:
    -0.02, less the root of 0.04^2 + 0.03^2 = 0.05, plus that of 0.08^2 + 0.06^2 = 0.1."""
    arms = {
        "likelihood": {"parts": {"headline": [0.64, 0.60, 0.72, 40]}},
        "likelihood_no_smoothing": {"parts": {"headline": [0.66, 0.60, 0.69, 40]}},
    }
    said = claims.statements(report.EMPTY | {"arms": arms})["Label smoothing helps"]
    lead = said["likelihood, 4,000 labels, less likelihood, no smoothing, not row by row"]
    assert lead == [-0.02, -0.07, 0.08, 40]


def test_claims_about_its_uses_come_from_their_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Adaptation: 0.1 and 0.3 more than Bradley-Terry on two tasks, 0.2 in the mean, +-1.27 (t = 12.706 times
    0.1); with 30 labels one task is missing, and without labels nothing is adapted. Gold of the policy: 0.5
    more with either of two seeds."""
    none_on_file(monkeypatch, tmp_path)
    monkeypatch.setattr(claims, "TASKS", ("a", "b"))
    for task, method, labels, value in (
        ("a", "gram", 0, 0.6),
        ("a", "bradley_terry", 0, 0.9),
        ("b", "gram", 0, 0.6),
        ("b", "bradley_terry", 0, 0.9),
        ("a", "gram", 10, 0.6),
        ("a", "bradley_terry", 10, 0.5),
        ("b", "gram", 10, 0.8),
        ("b", "bradley_terry", 10, 0.5),
        ("a", "gram", 30, 0.6),
        ("a", "bradley_terry", 30, 0.5),
    ):
        add(
            adaptation.RESULTS,
            {"task": task, "method": method, "labels": labels, "accuracy": [value, 0, 1, 9]},
        )
    for seed in (0, 1):
        add(grpo.RESULTS, {"seed": seed, "gold": [0.25] * grpo.PASS + [0.75] * grpo.PASS})
    lead = [0.1, 0.02, 0.2, 40]
    best_of_n.RESULTS.write_text(json.dumps({"zeroeval": {"leads": {"random": lead}}}))
    found = claims.statements(report.EMPTY)
    adapted = list(found["It adapts with fewer labels"].values())
    assert adapted[0] == pytest.approx([0.2, 0.2 - 1.2706, 0.2 + 1.2706, 2], abs=1e-3)
    assert adapted[1:] == [None] * 3
    assert [lead for lead in found["It chooses the better of many"].values() if lead] == [lead]
    [change] = found["It is a reward that improves a policy"].values()
    assert change == [0.5, 0.5, 0.5, 2]


def ranked(orders: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    prompts = everyday.read(everyday.PROMPTS)
    return [
        {"id": prompt["id"], "order": list(order), "strengths": [0.5, 0.0, -1.0]}
        for prompt, order in zip(prompts, orders, strict=False)
    ]


def test_everyday_prompts_are_counted_and_three_failures_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of six: two as intended, three with the best first, four with the worst last, four failures."""
    orders = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [0, 1, 2], [2, 1, 0], [1, 0, 2]]
    assert everyday.counts(ranked(orders)) == (2, 3, 4)
    monkeypatch.setattr(everyday, "RESULTS", tmp_path / "ranked.jsonl")
    assert everyday.section() == NOT_RUN
    for row in ranked(orders):
        add(everyday.RESULTS, row)
    shown = everyday.section()
    assert "| gram-135m | 2 | 3 | 4 |" in shown and "| gram-small | 5 | 12 | 8 |" in shown
    prompts = everyday.read(everyday.PROMPTS)
    assert len(prompts) == 30 and {len(prompt["responses"]) for prompt in prompts} == {3}
    assert [f"*{prompt['prompt']}*" in shown for prompt in prompts[:6]] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]
    first = shown.index(f"*{prompts[1]['prompt']}*")
    assert (
        shown[first:].split("\n\n")[1].startswith(f"- 2 (+0.00): {prompts[1]['responses'][1]}\n- 1 (+0.50)")
    )


def test_everyday_prompts_are_ranked_by_the_command(judge_folder: Path, tmp_path: Path) -> None:
    everyday.rank(str(judge_folder), tmp_path / "ranked.jsonl", "cpu")
    found = everyday.read(tmp_path / "ranked.jsonl")
    assert {row["id"] for row in found} == {prompt["id"] for prompt in everyday.read(everyday.PROMPTS)}
    assert everyday.counts(found)[0] <= 30


def test_licences_that_ask_for_attribution_name_their_tasks() -> None:
    tasks = attributions.trained_on()
    licences = json.loads(attributions.LICENCES.read_text())
    shown = attributions.table(tasks)
    assert len(tasks) > 200
    for task in tasks:
        assert (task in shown) == licences[task].startswith("CC BY")
        assert "SA" not in licences[task] and "NC" not in licences[task]
    assert sum(int(line.split("|")[2]) for line in shown.splitlines()[2:]) == len(tasks)


def test_page_and_card_show_what_is_on_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python -m experiments.foundation.report --page` leaves them as they are."""
    originals = (report.PAGE, report.DETAILS, report.CARD, report.README)
    copies = [Path(shutil.copy(path, tmp_path)) for path in originals]
    for name, copy in zip(("PAGE", "DETAILS", "CARD", "README"), copies, strict=True):
        monkeypatch.setattr(report, name, copy)
    monkeypatch.setattr(report, "IMAGES", tmp_path / "images")
    report.main(["--page"])
    assert [copy.read_text() for copy in copies] == [path.read_text() for path in originals]
    assert [path.read_text().count("<!-- end ") for path in originals[:2]] == [8, 12]

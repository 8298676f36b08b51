"""``gram convert``: the forms are those that trainers document, and nothing is lost unsaid.

What a trainer reads of a row is computed by TRL's own functions where they can be had, and else written out
by hand from the trainer's documentation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import make_preferences, run
from gram.data import read_preferences
from gram.data.writing import TARGETS
from gram.types import Message, Pair, Preference

SYSTEM_TURNS = 40 // 7  # of 40 rows, those that no HH transcript can hold


def source(path: Path, preferences: list[Preference], **more: Any) -> Path:
    """A file with soft labels, ids and margins."""
    rows = [
        {
            "prompt": [{"role": turn.role, "content": turn.content} for turn in item.pair.prompt],
            "a": item.pair.a,
            "b": item.pair.b,
            "p_a": item.p_a,
            "id": item.id,
            "margin": item.margin,
            "subset": item.subset,
            "group": item.group,
            **more,
        }
        for item in preferences
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def better_first(item: Preference) -> Preference:
    return item if item.p_a >= 0.5 else item.swapped()


def stripped(item: Preference) -> Preference:
    prompt = [Message(turn.role, turn.content.strip()) for turn in item.pair.prompt]
    pair = Pair(prompt, item.pair.a.strip(), item.pair.b.strip())
    return Preference(pair, item.p_a, item.id, item.subset, item.group, item.margin)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_lost_but_what_is_told(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 pairs with line breaks, spaces around, emoji, earlier turns and system prompts; labels 1, 0, 0.5,
    0.9 and 0.2, so that 8 are ties, and of the 32 others 16 are not certain. Every third has no margin.
    """
    preferences = make_preferences(40)
    kept = [better_first(item) for item in preferences if item.p_a != 0.5]
    output = tmp_path / "out.jsonl"
    code, result, _ = run(
        capsys, "convert", "--input", source(tmp_path / "in.jsonl", preferences), "--to", target,
        "--output", output, "--on-error", "skip",
    )  # fmt: skip
    assert code == 0
    lost = dict(result["lost"])
    if target == "hh":
        kept = [stripped(item) for item in kept if item.pair.prompt[0].role != "system"]
        rejects = lines(tmp_path / "out.jsonl.rejects.jsonl")
        assert result["rejected"] == len(rejects) == SYSTEM_TURNS
        assert all(
            "a turn of the system has no place in an HH transcript" in row["reason"] for row in rejects
        )
        assert lost.pop("white space around turns") > 3
    else:
        assert result["rejected"] == 0 and not (tmp_path / "out.jsonl.rejects.jsonl").exists()
    assert list(read_preferences(output).examples) == kept
    assert result["rows"] == len(lines(output)) == len(kept)
    if target != "hh":
        assert result["ties"] == 8
    assert lost.pop("label read as certain by the trainer (kept in p_chosen)") == sum(
        item.p_a < 1 for item in kept
    )
    margins = lost.pop("margin not read by the trainer (kept in margin)", 0)
    assert margins == (sum(item.margin != 0 for item in kept) if target in ("hh", "llama-factory") else 0)
    assert lost == {}


def test_round_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TRL to OpenRLHF, LLaMA-Factory, ms-swift and back: the same bytes."""
    path = source(tmp_path / "in.jsonl", make_preferences(30))
    files = []
    for place, target in enumerate(("trl", "openrlhf", "llama-factory", "ms-swift", "trl")):
        output = tmp_path / f"{place}.jsonl"
        code, result, _ = run(capsys, "convert", "--input", path, "--to", target, "--output", output)
        assert code == 0 and (place == 0 or result["ties"] == 0)
        path = output
        files.append(output.read_bytes())
    assert files[0] == files[-1] and len(set(files)) == 4


CHAT = [("system", "Be kind."), ("user", "2 + 2?"), ("assistant", "Of what?"), ("user", "Numbers.")]
MESSAGES = [{"role": role, "content": content} for role, content in CHAT]
GOOD, BAD = {"role": "assistant", "content": "4"}, {"role": "assistant", "content": "5"}
EXPECTED: dict[str, dict[str, Any]] = {
    "trl": {"prompt": MESSAGES, "chosen": [GOOD], "rejected": [BAD]},
    "openrlhf": {"chosen": [*MESSAGES, GOOD], "rejected": [*MESSAGES, BAD]},
    "ms-swift": {"messages": [*MESSAGES, GOOD], "rejected_response": "5"},
    "llama-factory": {
        "conversations": [
            {"from": "human", "value": "2 + 2?"},
            {"from": "gpt", "value": "Of what?"},
            {"from": "human", "value": "Numbers."},
        ],
        "chosen": {"from": "gpt", "value": "4"},
        "rejected": {"from": "gpt", "value": "5"},
        "system": "Be kind.",
    },
    "hh": {
        "chosen": "\n\nHuman: 2 + 2?\n\nAssistant: Of what?\n\nHuman: Numbers.\n\nAssistant: 4",
        "rejected": "\n\nHuman: 2 + 2?\n\nAssistant: Of what?\n\nHuman: Numbers.\n\nAssistant: 5",
    },
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_forms_by_hand(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certain label without margin or id needs no columns besides; HH has no place for the system turn."""
    prompt = MESSAGES[1:] if target == "hh" else MESSAGES
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"prompt": prompt, "chosen": "4", "rejected": "5"}) + "\n")
    output = tmp_path / "pairs.jsonl"
    code, result, _ = run(capsys, "convert", "--input", path, "--to", target, "--output", output)
    assert code == 0 and lines(output) == [EXPECTED[target]]
    assert (result["beside"], result["lost"], result["ties"], result["rejected"]) == ([], {}, 0, 0)
    entry = result.get("dataset_info")
    if target != "llama-factory":
        assert entry is None
        return
    [(name, about)] = result["dataset_info"].items()
    assert (name, about["file_name"]) == ("pairs", "pairs.jsonl")
    assert about["ranking"] is True and about["formatting"] == "sharegpt"
    assert about["columns"] == {
        "messages": "conversations", "system": "system", "chosen": "chosen", "rejected": "rejected",
    }  # fmt: skip


def test_trl_reads_both_of_its_forms_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TRL takes the prompt out of two whole conversations itself: it finds the one that we write apart."""
    data_utils = pytest.importorskip("trl.data_utils")
    path = source(tmp_path / "in.jsonl", make_preferences(20))
    rows = {}
    for target in ("trl", "openrlhf"):
        code, _, _ = run(
            capsys, "convert", "--input", path, "--to", target, "--output", tmp_path / f"{target}.jsonl"
        )
        assert code == 0
        rows[target] = lines(tmp_path / f"{target}.jsonl")
    for ours, whole in zip(rows["trl"], rows["openrlhf"], strict=True):
        assert data_utils.is_conversational(ours)
        found = data_utils.maybe_extract_prompt(whole)
        assert {name: found[name] for name in ("prompt", "chosen", "rejected")} == {
            name: ours[name] for name in ("prompt", "chosen", "rejected")
        }


def test_what_a_row_loses_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns that nobody reads are named; thoughts in a field of their own stand in the text afterwards."""
    thoughtful = {"role": "assistant", "reasoning_content": "2 and 2.", "content": "4"}
    rows = [
        {"prompt": "2 + 2?", "chosen": [thoughtful], "rejected": "5", "annotator": "x", "cost": 3},
        {"prompt": "3 + 3?", "chosen": "6", "rejected": "5", "annotator": None},
        {"prompt": "3 + 3?", "a": "6", "b": "six", "p_a": 0.5},
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, result, _ = run(
        capsys, "convert", "--input", path, "--to", "trl", "--output", tmp_path / "out.jsonl"
    )
    assert code == 0 and (result["rows"], result["ties"]) == (2, 1)
    assert result["lost"] == {
        "thoughts or tool calls in fields of their own (now in the text)": 1,
        "columns": ["annotator", "cost"],
    }
    [first, _] = lines(tmp_path / "out.jsonl")
    assert first["chosen"][0]["content"] == "<think>\n2 and 2.\n</think>\n\n4"


Q = "2 + 2?"
PAIR = {"prompt": Q, "chosen": "4", "rejected": "5"}
LEFT_OUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "columns of other forms": (
        {**PAIR, "messages": [MESSAGES[1], GOOD], "text": "x", "winner": "model_a", "score_a": 3},
        ["messages", "score_a", "text", "winner"],
    ),
    "a split and a source": ({**PAIR, "split": "test", "source": "web"}, ["source", "split"]),
    "a source that is kept in the group": ({**PAIR, "source": "web", "group": "7", "id": "x"}, []),
    "another question": ({**PAIR, "question": "Why?", "instruction": Q}, ["instruction", "question"]),
    "a part of the question": (
        {"instruction": "Add.", "input": Q, "chosen": "4", "rejected": "5"},
        [],
    ),
    "nothing": (
        {**PAIR, "system": "", "history": [], "input": "", "subset": "", "margin": 0.0},
        [],
    ),
    "a system prompt and earlier turns": ({**PAIR, "system": "Be kind.", "history": [["hi", "hello"]]}, []),
    "an id of another name": (
        {
            "question_id": "q1",
            "winner": "model_a",
            "conversation_a": [MESSAGES[1], GOOD],
            "conversation_b": [MESSAGES[1], BAD],
            "turn": 1,
            "text": "x",
        },
        ["text", "turn"],
    ),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_every_column_that_is_not_in_the_output_is_named(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever other forms of row would make of it; what says nothing is not lost."""
    row, columns = LEFT_OUT[case]
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps(row) + "\n")
    code, result, _ = run(capsys, "convert", "--input", path, "--to", "trl", "--output", output)
    assert code == 0 and result["lost"].get("columns", []) == columns
    assert read_preferences(output).examples == read_preferences(path).examples


def test_what_two_joined_rows_lose_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the worse answer's row too: what the better one's has not, or has otherwise. The id of the first is
    the pair's; ``source`` and ``prompt`` say the same in both.
    """
    good = {
        "id": "1",
        "prompt": Q,
        "completion": "4",
        "label": True,
        "note": "a",
        "source": "web",
        "tag": "x",
    }
    bad = {
        "id": "2",
        "prompt": [MESSAGES[1]],
        "completion": "5",
        "label": False,
        "note": "b",
        "source": "web",
    }
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad | {"by": "me", "cost": None})))
    code, result, _ = run(capsys, "convert", "--input", path, "--to", "trl", "--output", output)
    assert code == 0 and [row["id"] for row in lines(output)] == ["1"]
    columns = ["note", "rejected.by", "rejected.id", "rejected.note", "source", "tag"]
    assert result["lost"] == {"columns": columns}


def test_candidates_that_are_in_no_pair_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """UltraFeedback: the best and the worst of two are all there are, of three one is left out."""
    candidates = [
        {"response": text, "overall_score": score} for text, score in (("4", 2), ("5", 1), ("6", 1.5))
    ]
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    for count, lost in ((2, {}), (3, {"candidates besides the best and the worst": 1})):
        path.write_text(json.dumps({"instruction": Q, "completions": candidates[:count]}))
        code, result, _ = run(capsys, "convert", "--input", path, "--to", "trl", "--output", output)
        assert code == 0 and result["lost"] == lost


def test_a_call_of_nulls_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As tables write it; nothing then stood in a field of its own."""
    null = {"function_call": {"name": None, "arguments": None}, "tool_calls": None}
    path, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps({"prompt": Q, "chosen": [GOOD | null], "rejected": [BAD | null]}))
    code, result, _ = run(capsys, "convert", "--input", path, "--to", "trl", "--output", output)
    assert (code, result["lost"]) == (0, {})
    assert read_preferences(output).examples[0].pair == Pair(Q, "4", "5")


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a system turn in HH": (
        "hh",
        {"prompt": MESSAGES, "chosen": "4", "rejected": "5"},
        "a turn of the system has no place",
    ),
    "an answer that looks like a turn in HH": (
        "hh",
        {"prompt": "2 + 2?", "chosen": "4\n\nHuman: and 3 + 3?", "rejected": "5"},
        "cannot hold this text",
    ),
    "two users in LLaMA-Factory": (
        "llama-factory",
        {"prompt": [MESSAGES[1], MESSAGES[3]], "chosen": "4", "rejected": "5"},
        "turn 2 is of the user",
    ),
    "a late system turn in LLaMA-Factory": (
        "llama-factory",
        {"prompt": [MESSAGES[1], MESSAGES[0], MESSAGES[3]], "chosen": "4", "rejected": "5"},
        "turn 2 is of the system",
    ),
    "no label": ("trl", {"prompt": "2 + 2?", "a": "4", "b": "5"}, "this pair has no label"),
    "a tie alone": ("trl", {"prompt": "2 + 2?", "a": "4", "b": "5", "p_a": 0.5}, "every pair is a tie"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_row_that_cannot_be_held_is_refused_by_name(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, row, reason = REFUSED[case]
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(row) + "\n")
    output = tmp_path / "out.jsonl"
    code, _, err = run(capsys, "convert", "--input", path, "--to", target, "--output", output)
    assert code == 1 and reason in err and str(path) in err
    assert "tie" in case or f"{path}, line 1" in err or f"{path}:1" in err
    assert sorted(found.name for found in tmp_path.iterdir()) == ["in.jsonl"]


def test_the_input_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = source(tmp_path / "in.jsonl", make_preferences(3))
    before = path.read_bytes()
    code, _, err = run(capsys, "convert", "--input", path, "--to", "trl", "--output", path)
    assert code == 1 and "is an input" in err and path.read_bytes() == before

"""Turns that a chat template refuses: a bad row with file and line in every command, set aside if asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import run, sharpened
from gram.errors import DataError, TemplateError
from gram.modeling.showing import Showing
from gram.rendering import ChatFormat
from gram.types import Answer, Contest, Pair, Preference, Text
from small_models import config_of
from small_tokenizers import byte_level, tokenizer_of

# Wants the user first and then turns that alternate, and has no system turn: the Gemma kind.
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it late?"}]
TWICE = [{"role": "user", "content": "Is it"}, {"role": "user", "content": "late?"}]
GOOD = "Is it late?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with that template."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("gemma") / "model"
    tokenizer = byte_level(
        ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], bos="<bos>", eos="<eos>", template=GEMMA
    )
    sharpened(AutoModelForCausalLM.from_config(config_of("llama", len(tokenizer)))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(path: Path, *prompts: Any, candidates: bool = False) -> Path:
    answers: dict[str, Any] = {"chosen": "Yes, it is.", "rejected": "No."}
    if candidates:
        answers = {"responses": ["Yes, it is.", "No.", "Hm."]}
    path.write_text("".join(json.dumps({"prompt": prompt, **answers}) + "\n" for prompt in prompts))
    return path


COMMANDS: dict[str, list[str]] = {
    "score": ["--kind", "likelihood", "--input"],
    "rank": ["--kind", "likelihood", "--input"],
    "mine": ["--kind", "likelihood", "--input"],
    "eval": ["--kind", "likelihood", "--data"],
    "adapt": ["--kind", "likelihood", "--data"],
    "train": ["--objective", "likelihood", "--max-steps", "1", "--token-budget", "200", "--data"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_refused_order_of_turns_is_a_bad_row(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named by file and line, before the model is loaded; ``--on-error skip`` sets it aside."""
    candidates = command in ("rank", "mine")
    data = rows(tmp_path / "rows.jsonl", GOOD, SYSTEM, TWICE, GOOD, candidates=candidates)
    call = (command, "--model", model, *COMMANDS[command], data, "--output", tmp_path / "out")
    code, _, said = run(capsys, *call)
    assert code == 1
    assert f"{data}:3: field 'prompt': cannot be shown to the model" in said
    assert "Conversation roles must alternate" in said
    assert not (tmp_path / "out").is_file()
    code, result, said = run(capsys, *call, "--on-error", "skip")
    if command == "adapt":  # three rows are too few to adapt to, which is found out after reading them
        assert "of 3 rows" in said or "at least 10" in said
    else:
        assert code == 0 and result["rejected"] == 1
    [reject] = [path for path in tmp_path.rglob("*rejects.jsonl") if path.stat().st_size]
    entry = json.loads(reject.read_text())
    assert (entry["line"], entry["field"], entry["row"]["prompt"]) == (3, "prompt", TWICE)


def test_a_judge_is_shown_any_order_of_turns(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its prompt is one user turn that holds the conversation as text."""
    data = rows(tmp_path / "rows.jsonl", GOOD, SYSTEM, TWICE)
    code, result, _ = run(
        capsys, "score", "--model", model, "--input", data, "--output", tmp_path / "scores.jsonl"
    )
    assert (code, result["rows"], result["rejected"]) == (0, 3, 0)


@pytest.mark.parametrize("option", [[], ["--context", "judge"]])
def test_stage_1_checks_single_answers_whatever_the_context(
    option: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in the chat format, also of a model that is asked in the judge prompt, as one that learned
    from pairs is; a pair of the same turns is shown to the judge.
    """
    pairs = rows(tmp_path / "pairs.jsonl", GOOD, TWICE)
    how = ("train", "--stage", "pretrain", "--max-steps", "1", "--token-budget", "200", "--device", "cpu")
    code, result, said = run(
        capsys, *how, "--model", model, "--data", pairs, "--output", tmp_path / "first", *option
    )
    assert (code, result["rejected"]) == (0, 0), said
    assert json.loads((tmp_path / "first" / "gram.json").read_text())["context"] == "judge"
    answers = tmp_path / "answers.jsonl"
    lines = [{"prompt": prompt, "response": "Yes, it is."} for prompt in (GOOD, TWICE, GOOD)]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    call = (
        *how,
        "--model",
        tmp_path / "first",
        "--data",
        answers,
        pairs,
        "--output",
        tmp_path / "out",
        *option,
    )
    code, _, said = run(capsys, *call)
    assert code == 1 and f"{answers}:2: field 'prompt': cannot be shown to the model" in said
    code, result, said = run(capsys, *call, "--on-error", "skip")
    assert (code, result["rejected"], result["samples"]) == (0, 1, 4), said


def test_in_python_the_place_in_the_call_is_named(model: Path) -> None:
    likelihood = gram.load(model, kind="likelihood")
    with pytest.raises(TemplateError, match=r"prompts\[1\]: the tokenizer's chat template refuses turns"):
        likelihood.score([GOOD, TWICE], ["Yes.", "No."])  # type: ignore[union-attr]


def test_rows_of_every_form_are_checked() -> None:
    check = Showing([lambda: ChatFormat(tokenizer_of("inst"))])
    tool = [
        {"role": "user", "content": "q"},
        {"role": "tool", "content": "r"},
        {"role": "user", "content": "s"},
    ]
    pair = Pair(tool, "a", "b")
    for row in (pair, Preference(pair, 1.0), Contest(tool, ("a", "b")), Answer(tool, "a")):
        with pytest.raises(DataError, match="only user and assistant turns"):
            check(row)
    check(Text("no prompt"))
    check(Answer(SYSTEM, "a"))  # a system turn goes in front of the user's

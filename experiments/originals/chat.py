"""Pairs of answers to one request, from the repositories that have them. Knows how each writes them down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from experiments.originals.pairs import Pair
from experiments.originals.reading import clean, read_json, read_lines, read_sheet


def llmbar(original: Path) -> Iterator[Pair]:
    parts = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut")
    for part in (*parts, "Adversarial/Manual"):
        for row in read_json(original / "Dataset" / "LLMBar" / part / "dataset.json"):
            answers = row["output_1"].strip(), row["output_2"].strip()
            chosen, rejected = answers if row["label"] == 1 else answers[::-1]
            yield Pair(row["input"].strip(), chosen, rejected, part.split("/")[-1])


HHH = re.compile(
    "###The instruction to evaluate:\n(.*?)\n\n###Response to evaluate:\n(.*)\n\n###Score Rubrics:", re.DOTALL
)
"""Question and answer within the request to a judge."""


def hhh(original: Path) -> Iterator[Pair]:
    for row in read_json(original / "eval" / "benchmark" / "data" / "hhh_alignment_eval.json"):
        chosen, rejected = HHH.search(row["chosen_instruction"]), HHH.search(row["rejected_instruction"])
        assert chosen and rejected and chosen[1] == rejected[1]
        yield Pair(chosen[1].strip(), chosen[2].strip(), rejected[2].strip(), row["source"])


def pandalm(original: Path) -> Iterator[Pair]:
    """What two or three of three people prefer (1 or 2; 0 is a tie)."""
    for row in read_json(original / "data" / "testset-v1.json"):
        votes = [row[f"annotator{number}"] for number in (1, 2, 3)]
        answers = str(row["response1"]).strip(), str(row["response2"]).strip()
        for winner in (1, 2):
            if votes.count(winner) >= 2:
                chosen, rejected = answers if winner == 1 else answers[::-1]
                prompt = f"{row['instruction'].strip()}\n\n{(row['input'] or '').strip()}".strip()
                subset = "unanimous" if votes.count(winner) == 3 else "majority"
                yield Pair(prompt, chosen, rejected, subset)


def ifbench(original: Path) -> Iterator[Pair]:
    for row in read_json(original / "data" / "IFBench" / "data.converted.json"):
        request, chosen = (turn["content"].strip() for turn in row["text_chosen"])
        yield Pair(request, chosen, row["text_rejected"][-1]["content"].strip(), "constraint")


NEXT_TURN = re.compile("### ?(?:Human|Assistant)")
"""Where some models went on with more turns: these are no part of their answer."""


def qlora_vicuna(original: Path) -> Iterator[Pair]:
    """What GPT-4 finds better (1: the first, 2: the second, 3: neither) in both orders of two models."""
    folder = original / "eval"
    questions = {
        row["question_id"]: row["text"] for row in read_lines(folder / "prompts/vicuna_questions.jsonl")
    }
    end = "-gpt-4-reviewer-threeclass.jsonl"
    verdicts: dict[tuple[str, str], dict[int, int]] = {}
    for path in sorted((folder / "ratings-gpt4" / "vicuna" / "pairwise").glob("*" + end)):
        first, second = path.name.removesuffix(end).split("-vs-")
        verdicts[first, second] = {row["question_id"]: row["score"] for row in read_lines(path)}
    answers: dict[str, dict[int, str]] = {}
    for model in {model for models in verdicts for model in models}:
        path = folder / "generations" / "vicuna" / f"{model.replace('answer-', 'answer_')}.jsonl"
        answers[model] = {
            row["question_id"]: clean(NEXT_TURN.split(row.get("generation", row["text"]))[0])
            for row in read_lines(path)
        }
    for (first, second), found in verdicts.items():
        if first > second:
            continue
        for question, score in found.items():
            if (score, verdicts[second, first].get(question)) in ((1, 2), (2, 1)):
                better, worse = (first, second) if score == 1 else (second, first)
                texts = answers[better][question], answers[worse][question]
                yield Pair(questions[question].strip(), *texts, "gpt4-pairwise")


VOTES = {
    "a-is-better": 2,
    "a-is-slightly-better": 1,
    "tie": 0,
    "b-is-slightly-better": -1,
    "b-is-better": -2,
}


def tulu_human(original: Path) -> Iterator[Pair]:
    """What people prefer on average, where it is no tie; clear from 1.5 of 2 on."""
    asked: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_sheet(original / "human_eval" / "data" / "eval_annotations_tulu_1.xlsx"):
        if row.get("preference") in VOTES:
            asked.setdefault((row["instance_id"], row["model_a"], row["model_b"]), []).append(row)
    for rows in asked.values():
        mean = sum(VOTES[row["preference"]] for row in rows) / len(rows)
        answers = rows[0]["completion_a"].strip(), rows[0]["completion_b"].strip()
        if mean:
            chosen, rejected = answers if mean > 0 else answers[::-1]
            yield Pair(rows[0]["prompt"].strip(), chosen, rejected, "clear" if abs(mean) >= 1.5 else "slight")

"""Pairs of a right and a wrong answer, from the repositories that have them. Knows how each says them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from experiments.originals.pairs import Pair
from experiments.originals.reading import clean, read_json, read_lines


def truthfulqa(original: Path) -> Iterator[Pair]:
    """Every correct answer to a question against every incorrect one."""
    with (original / "TruthfulQA.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            right, wrong = (
                [answer.strip() for answer in row[f"{kind} Answers"].split(";") if answer.strip()]
                for kind in ("Correct", "Incorrect")
            )
            for chosen in right:
                for rejected in wrong:
                    yield Pair(row["Question"].strip(), chosen, rejected, row["Category"])


def piqa(original: Path) -> Iterator[Pair]:
    """``valid-labels.lst`` says, a line a row, whether the first (0) or the second (1) solution is right."""
    folder = original / "piqa" / "data"
    labels = (folder / "valid-labels.lst").read_text(encoding="utf-8").split()
    for row, label in zip(read_lines(folder / "valid.jsonl"), labels, strict=True):
        answers = row["sol1"].strip(), row["sol2"].strip()
        chosen, rejected = answers if label == "0" else answers[::-1]
        yield Pair(row["goal"].strip(), chosen, rejected, "valid")


def humanevalpack(original: Path) -> Iterator[Pair]:
    """The reference solution against the one with a bug; a task has the same number in all languages."""
    for language in ("python", "cpp", "go", "java", "js", "rust"):
        folder = original / "evaluation" / "create" / "humaneval-x" / "data" / language / "data"
        for row in read_lines(folder / "humanevalpack.jsonl"):
            yield Pair(
                f"Write the following {language} function.\n\n{row['prompt'].rstrip()}",
                (row["declaration"] + row["canonical_solution"]).strip(),
                (row["declaration"] + row["buggy_solution"]).strip(),
                f"{language}/{row['bug_type']}",
                row["task_id"].split("/")[-1],
            )


JUDGEBENCH = {"livebench-math": "math", "livebench-reasoning": "reasoning", "livecodebench": "coding"}
"""Its sources; all others are of MMLU-Pro, and of knowledge."""


def judgebench(original: Path) -> Iterator[Pair]:
    models = {"gpt-4o-2024-05-13": "gpt-4o", "claude-3-5-sonnet-20240620": "claude-3.5"}
    for model, name in models.items():
        for row in read_lines(original / "data" / f"dataset=judgebench,response_model={model}.jsonl"):
            answers = row["response_A"].strip(), row["response_B"].strip()
            chosen, rejected = answers if row["label"] == "A>B" else answers[::-1]
            subject = JUDGEBENCH.get(row["source"], "knowledge")
            yield Pair(clean(row["question"]), chosen, rejected, f"{name}/{subject}")


def summedits(original: Path) -> Iterator[Pair]:
    """Every consistent summary of a document against every inconsistent one."""
    parts = ("qmsumm", "scitldr", "sales_call", "podcast", "sales_email", "ectsum", "news")
    for part in parts:
        documents: dict[str, dict[int, list[str]]] = {}
        for row in read_json(original / "data" / "summedits" / f"summedits_{part}.json"):
            document = re.sub("[ \t]+\n", "\n", row["doc"]).strip()
            labelled = documents.setdefault(document, {0: [], 1: []})
            labelled[row["label"]].append(row["summary"].strip())
        for number, (document, labelled) in enumerate(documents.items()):
            for chosen in labelled[1]:
                for rejected in labelled[0]:
                    prompt = f"{document}\n\nSummarize the text above."
                    yield Pair(prompt, chosen, rejected, part, f"{part}/{number}")

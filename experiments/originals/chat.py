"""Pairs of answers to one request, from the repositories that have them. Knows how each writes them down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.originals.pairs import Pair


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


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

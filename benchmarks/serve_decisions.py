"""Typed questions under load: ``gram serve`` beside ``transformers serve``, which answers one by one.

Each request has a state of its own and the first of eight questions: yes/no, choices, scores. All callers ask
at once. Both servers have the folder that ``gram export decision`` makes of the model: they show the same
prompts, and with one order of the options give the same numbers. Knows no reward.
"""

from __future__ import annotations

import random
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import gram_serve, load_of, transformers_serve
from gram.decisions.export import export_decision

REQUESTS = 64  # each by a caller of its own
WARM = 16  # such before: memory and kernels are then as they stay
PATH = "/v1/systemone"
QUESTIONS = {
    "refund": {"type": "noul", "instructions": "Does the customer ask for money back?"},
    "twice": {"type": "noul", "instructions": "Has the customer written before?"},
    "topic": {
        "type": "choice",
        "instructions": "What is it about?",
        "criteria": {"delivery": None, "payment": "Bills and refunds", "product": None, "other": None},
    },
    "urgency": {
        "type": "score",
        "instructions": "How urgent is it?",
        "criteria": ["not at all", "a little", "some", "very", "now"],
    },
    "lawyer": {"type": "noul", "instructions": "Is a lawyer or a court mentioned?"},
    "reply": {"type": "noul", "instructions": "Does the customer expect a reply?"},
    "tone": {
        "type": "choice",
        "instructions": "How does the customer write?",
        "criteria": {"calm": None, "angry": None, "sad": None, "joking": None},
    },
    "loyalty": {
        "type": "score",
        "instructions": "How likely is it that the customer stays?",
        "criteria": ["not at all", "hardly", "perhaps", "likely", "sure"],
    },
}


def decisions(text: Callable[[random.Random], str], options: Namespace) -> list[dict[str, Any]]:
    """What every server did with the same requests, transformers' first.

    Args:
        text: makes up a state.
    """
    draw = random.Random(1)
    questions = dict(islice(QUESTIONS.items(), options.questions))
    made = [{"state": text(draw), "questions": questions} for _ in range(WARM + REQUESTS)]
    warm, requests = made[:WARM], made[WARM:]
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "decision")
        export_decision(options.model, Path(folder))
        rows = [
            _asked("transformers serve", transformers_serve(folder, options.dtype), warm, requests),
            _asked("gram serve --orders 1", gram_serve(folder, options.dtype, "--orders", 1), warm, requests),
            _asked("gram serve", gram_serve(folder, options.dtype), warm, requests),
        ]
    first = rows[0]["probabilities"]
    for row in rows:
        row["largest_difference"] = float(np.abs(np.array(row.pop("probabilities")) - first).max())
    return rows


def _asked(
    name: str, server: AbstractContextManager[str], warm: Sequence[Any], requests: Sequence[Any]
) -> dict[str, Any]:
    with server as address:
        load_of(address, PATH, warm, len(warm))
        load = load_of(address, PATH, requests, len(requests))
    tokens = sum(answer["usage"]["input_tokens"] for answer in load.answers)
    probabilities = [p for answer in load.answers for p in _probabilities(answer["answers"])]
    about = {"server": name, "requests": len(requests), "questions": len(requests[0]["questions"])}
    about["input_tokens"] = tokens
    return {**about, **load.numbers(), "probabilities": probabilities}


def _probabilities(answers: dict[str, Any]) -> list[float]:
    """Of all questions, in one order."""
    found: list[float] = []
    for answer in answers.values():
        found += [answer["noul"]] if "noul" in answer else answer["probabilities"].values()
    return found


def decision_table(rows: Sequence[dict[str, Any]]) -> str:
    """The numbers as Markdown."""
    asked = f"{REQUESTS} requests of {rows[0]['questions']} questions at once"
    lines = [
        f"| {asked} | requests/s | of transformers' | p50, p95, p99 (s) | off by |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        times = ", ".join(f"{row[key]:.2f}" for key in ("p50", "p95", "p99"))
        ratio = row["per_second"] / rows[0]["per_second"]
        lines.append(
            f"| {row['server']} | {row['per_second']:.2f} | {ratio:.2f} | {times} | "
            f"{row['largest_difference']:.1e} |"
        )
    return "\n".join(lines)

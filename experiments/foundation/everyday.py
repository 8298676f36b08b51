"""Thirty everyday prompts with three answers each, written best first before any model had been asked.

Command: python -m experiments.foundation.everyday (seconds; --model takes a folder in place of gram-135m).
Lets `gram rank` write experiments/results/gram_135m_everyday.jsonl, and prints how many are in the intended
order, beside gram-small, and the first three that are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.claims.study import markdown
from experiments.foundation.results import FOLDER, MODEL, NOT_RUN, Result, command, read

from gram.cli.main import main as gram
from gram.errors import GramError

PROMPTS = Path(__file__).with_name("everyday.jsonl")
RESULTS = FOLDER / "gram_135m_everyday.jsonl"
BEFORE = FOLDER / "gram_small_everyday.jsonl"
"""What the small model made of the same prompts; it went when gram-135m came."""
FAILURES = 3


def rank(model: str, output: Path, device: str | None = None) -> None:
    """Rank the answers with the command that the page names."""
    how = ["--device", device] if device else []
    if gram(["rank", "--model", model, "--input", str(PROMPTS), "--output", str(output), *how]):
        raise GramError(f"gram rank --model {model}: failed, see above")


def counts(ranked: Sequence[Mapping[str, Any]]) -> tuple[int, int, int]:
    """How many are in the intended order, have the best answer first, and the worst last.

    Example:
        >>> counts([{"order": [0, 1, 2]}, {"order": [0, 2, 1]}, {"order": [1, 0, 2]}])
        (1, 2, 2)
    """
    orders = [row["order"] for row in ranked]
    return (
        sum(order == sorted(order) for order in orders),
        sum(order[0] == 0 for order in orders),
        sum(order[-1] == len(order) - 1 for order in orders),
    )


def table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One row for each model, and what chance gives to three answers."""
    rows = [[name, *map(str, counts(ranked))] for name, ranked in found.items()]
    n = len(read(PROMPTS))
    rows.append(["chance", f"{n / 6:g}", f"{n / 3:g}", f"{n / 3:g}"])
    return markdown([f"of {n} prompts", "in the intended order", "best first", "worst last"], rows)


def failures(ranked: Sequence[Result]) -> str:
    """The first prompts that are not in the intended order, their answers as the model ranks them.

    The number is the intended place, then comes the mean of the log-odds against the others.
    """
    asked = {row["id"]: row for row in read(PROMPTS)}
    wrong = [row for row in ranked if row["order"] != sorted(row["order"])][:FAILURES]
    parts = []
    for row in wrong:
        prompt = asked[row["id"]]
        answers = [
            f"- {place + 1} ({row['strengths'][place]:+.2f}): {' '.join(prompt['responses'][place].split())}"
            for place in row["order"]
        ]
        parts += [f"*{prompt['prompt']}*", "\n".join(answers)]
    return "\n\n".join(parts) or "None of them is in another order."


def section() -> str:
    """What the page says, from the results on file."""
    ranked = read(RESULTS)
    if not ranked:
        return NOT_RUN
    models = {MODEL: ranked, "gram-small": read(BEFORE)}
    return f"{table(models)}\n\n{failures(ranked)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command(__doc__)
    options = parser.parse_args(arguments)
    if not options.table:
        rank(options.model, RESULTS, options.device)
    print(section())


if __name__ == "__main__":
    main()

"""The claims at one glance: a table of what held, and the page and pictures made from the results on file.

A statement is a difference that a claim expects above 0, with its 95% interval over seeds (Student's t). A
claim held if every statement's interval lies above 0, held in part if some do, and did not hold if none does.
Command: python -m experiments.claims.summary rewrites the marked parts of docs/claims.md, and the
pictures in docs/images/claims/. Nothing is run.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Sequence
from pathlib import Path

from experiments.claims.study import RESULTS, Result, Study, markdown, read
from experiments.pages import filled

from gram.files import atomic_write
from gram.statistics import over_seeds

CLAIMS = {
    "unlabeled_pretraining": "Pre-training on unlabeled answers is what generalises",
    "label_smoothing": "Label smoothing helps",
    "generative_or_discriminative": "Generative beats discriminative out of distribution",
    "adaptation": "Little or no labeled data suffices for a new task",
    "adaptation_real": "... on real text (conala, 2.6M parameters)",
    "scale": "More pre-training, and a larger model, are better",
    "two_scores": "Judge and likelihood each have their place",
    "order_bias": "Both orders take the position bias out",
}
PAGE = Path("docs/claims.md")
PICTURES = Path("docs/images/claims")
NOT_RUN = "not run yet"


def study(name: str) -> Study:
    """The study of that name."""
    return importlib.import_module(f"experiments.claims.{name}").STUDY


def verdict(statements: dict[str, list[float]]) -> str:
    """held, partly, did not hold; or, with fewer than two seeds of anything, not run yet."""
    if min(map(len, statements.values())) < 2:
        return NOT_RUN
    held = [over_seeds(differences).low > 0 for differences in statements.values()]
    return "held" if all(held) else "partly" if any(held) else "did not hold"


def difference(values: list[float]) -> str:
    """``+0.123 [0.101, 0.145]`` over seeds."""
    found = over_seeds(values)
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def short_table() -> str:
    """One row per claim: the verdict, and its first statement with the interval."""
    rows = []
    for name, claim in CLAIMS.items():
        results = read(RESULTS / f"{name}.jsonl")
        statements = study(name).statements(results)
        first = next(iter(statements))
        if verdict(statements) == NOT_RUN:
            rows.append([claim, NOT_RUN, "", ""])
            continue
        seeds = len(statements[first])
        rows.append([claim, verdict(statements), f"{first}: {difference(statements[first])}", str(seeds)])
    return markdown(["claim", "here", "the difference it rests on, 95% interval", "seeds"], rows)


def section(name: str) -> str:
    """The statements, the whole table and the cost of one claim."""
    results: list[Result] = read(RESULTS / f"{name}.jsonl")
    found = study(name)
    statements = found.statements(results)
    if verdict(statements) == NOT_RUN:
        return f"Not run in full yet: `python -m experiments.claims.{name}`"
    rows = [
        [text, difference(values), "yes" if over_seeds(values).low > 0 else "no"]
        for text, values in statements.items()
    ]
    minutes = math.ceil(sum(result["cpu_seconds"] for result in results) / 60)
    seeds = sorted({result["seed"] for result in results})
    parts = [
        f"**{verdict(statements).capitalize()}.** Seeds {', '.join(map(str, seeds))}; "
        f"{minutes} minutes of one core. `python -m experiments.claims.{name}`",
        markdown(["what the claim expects above 0", "difference [95% interval]", "holds"], rows),
        found.table(results),
        f"![{CLAIMS[name]}](images/claims/{name}.png)",
    ]
    return "\n\n".join(parts)


def page() -> str:
    """The page as the results on file make it."""
    text = PAGE.read_text(encoding="utf-8")
    for name in CLAIMS:
        text = filled(text, name, section(name))
    return filled(text, "claims", short_table())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(arguments)
    text = page()
    with atomic_write(PAGE) as file:
        file.write(text)
    for name in CLAIMS:
        results = read(RESULTS / f"{name}.jsonl")
        if verdict(study(name).statements(results)) != NOT_RUN:
            study(name).picture(results, PICTURES / f"{name}.png")
    print(short_table())


if __name__ == "__main__":
    main()

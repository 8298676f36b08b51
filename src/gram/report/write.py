"""The files of a run of ``gram eval`` beside its records: results, pages, and files for other tools.

Knows sessions and records; asks no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gram.evaluation import Record, Session, floors, preferences_of, results
from gram.report.markdown import card, write_report
from gram.report.outputs import write_outputs
from gram.report.page import write_page
from gram.types import FloatArray, Preference

LEFT_OUT = ("rejected", "unpaired", "beyond_limit")
"""Why rows and items of the data are not judged, as the results count them."""


def run_files(sources: Sequence[str]) -> list[str]:
    """The names of the files that ``write_run`` writes for a run over these sources.

    Example:
        >>> run_files(["pairs"])
        ['results.json', 'report.md', 'report.html', 'pairs_outputs.jsonl']
    """
    return ["results.json", "report.md", "report.html", *(f"{name}_outputs.jsonl" for name in sources)]


def write_run(
    session: Session,
    records: Sequence[Record],
    train: Mapping[str, Sequence[Preference]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write results.json, report.html, report.md and the ``*_outputs.jsonl`` of a run.

    Args:
        train: rows to train the bag of words of each source.
        about: facts about the model that stand in results.json: ``model`` (its name), ``kind``,
            ``dtype``, ``single_order``, ``ensemble`` where it is one, and ``measured``: by what the model
            is known again.

    Returns:
        The paths and the overall numbers, as the command prints them.
    """
    output = session.output
    rules = {part.source.name: part.source.benchmark.name for part in session.questions}
    floors_of: dict[str, Mapping[str, FloatArray]] = {
        part.source.name: floors(preferences_of(part.items), train[part.source.name])
        for part in session.questions
    }
    outcome = results(records, rules, floors_of)
    facts = _facts(session, records, about)
    names = ", ".join(rules) if len(rules) < 4 else f"{len(rules)} benchmarks"
    model = str(about["model"])  # of a remote judge without its address
    title = f"{model.partition('@http')[0] if '@http' in model else Path(model).name} on {names}"
    summary = outcome.to_dict()
    results_path, _ = write_report(output, {**facts, **summary}, card(outcome, title))
    page = write_page(output / "report.html", outcome, records, facts, title)
    for part in session.questions:
        inside = [record for record in records if record.source == part.source.name]
        write_outputs(output / f"{part.source.name}_outputs.jsonl", session.items, inside)
    return {
        "report": str(page),
        "results": str(results_path),
        "rows": len(records),
        "scores": {part["source"]: part["scores"]["score"] for part in summary["benchmarks"]},
        "accuracy": summary["overall"]["accuracy"],
        "consistency": summary["overall"]["consistency"],
        "label_mass": summary["label_mass"],
        "floors": summary["overall"]["floors"],
        "truncated_prompts": facts["truncated_prompts"],
        **{reason: facts[reason] for reason in LEFT_OUT},
        "ties": summary["overall"]["ties"],
    }


def truncated_prompts(records: Sequence[Record]) -> int | None:
    """On how many comparisons a prompt was cut; None if the model does not count them."""
    if any(record.truncated is None for record in records):
        return None
    return sum(bool(record.truncated) for record in records)


def _facts(session: Session, records: Sequence[Record], about: Mapping[str, Any]) -> dict[str, Any]:
    """The model, the data and the options of the run, and how many prompts and rows were cut or rejected."""
    return {
        "version": 1,
        **{name: about[name] for name in ("model", "ensemble", "kind") if name in about},
        "dtype": about["dtype"],
        "template_hash": records[0].template,
        "measured": about["measured"],
        "data": [
            {
                "source": part.source.name,
                "benchmark": part.source.benchmark.name,
                "items": len(part.items),
                "files": [
                    {"name": Path(s.name).name, "split": s.split, "records": s.records, "sha256": s.sha256}
                    for s in part.infos
                ],
            }
            for part in session.questions
        ],
        "single_order": about["single_order"],
        "seed": session.selection.seed,
        "limit": session.selection.max_per_source,
        "truncated_prompts": truncated_prompts(records),
        **{reason: sum(part.counts[reason] for part in session.questions) for reason in LEFT_OUT},
    }

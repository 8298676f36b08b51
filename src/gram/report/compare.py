"""Several runs over the same items, side by side, with paired differences.

Knows the folders that ``gram eval`` writes; knows no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gram.errors import ConfigError, DataError
from gram.evaluation import PairedDifference, Record, Results, paired_difference, read_records, results
from gram.evaluation.differences import same_items
from gram.files import atomic_write, finite
from gram.report.markdown import interval, number, signed
from gram.report.page import render

COMPARISON = ("results.json", "report.md", "report.html")
"""The files that ``write_comparison`` writes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One folder of ``gram eval``: its name, the content of its ``results.json``, and its records."""

    name: str
    about: dict[str, Any]
    records: list[Record]

    @property
    def rules(self) -> dict[str, str]:
        """Source -> benchmark."""
        return {source["source"]: source["benchmark"] for source in self.about["data"]}

    @property
    def results(self) -> Results:
        """The results, computed again from the records."""
        return results(self.records, self.rules)


@dataclass(frozen=True, slots=True)
class RunDifference:
    """One run against the first.

    Attributes:
        name: of the run.
        overall: accuracy minus that of the first run, over all comparisons.
        sources: the same by source.
    """

    name: str
    overall: PairedDifference
    sources: dict[str, PairedDifference]


def read_run(folder: Path, name: str) -> Run:
    """A finished run.

    Raises:
        DataError: the folder holds none, or its files are not what ``gram eval`` writes.
    """
    path = Path(folder) / "results.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        _ = [(source["source"], source["benchmark"]) for source in about["data"]]
    except OSError as error:
        raise DataError(f"no finished run there: {error.strerror}", file=str(path)) from None
    except (ValueError, TypeError, KeyError):
        raise DataError("not the results of this version of gram eval", file=str(path)) from None
    return Run(name, about, read_records(Path(folder) / "records.jsonl"))


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Finished runs, called as their folders are, or by their paths where two folders have one name.

    Raises:
        DataError: as ``read_run``.
    """
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def compare(runs: Sequence[Run], *, seed: int = 0) -> list[RunDifference]:
    """Every later run against the first, on the same items.

    Raises:
        ConfigError: fewer than two runs.
        DataError: the runs judged other items, or other benchmarks.
    """
    if len(runs) < 2:
        raise ConfigError("give two runs or more to compare")
    first, run_differences = runs[0], []
    for run in runs[1:]:
        if run.rules != first.rules:
            raise DataError(
                f"cannot compare {first.name} and {run.name}: one is over {', '.join(first.rules)}, "
                f"the other over {', '.join(run.rules)}"
            )
        same_items(first.records, run.records, (first.name, run.name))
        pairs = {source: ([], []) for source in first.rules}
        for a, b in zip(first.records, run.records, strict=True):
            if a.judged:
                pairs[a.source][0].append(b)
                pairs[a.source][1].append(a)
        everything = [[record for side in pairs.values() for record in side[k]] for k in (0, 1)]
        run_differences.append(
            RunDifference(
                run.name,
                paired_difference(everything[0], everything[1], seed=seed),
                {source: paired_difference(x, y, seed=seed) for source, (x, y) in pairs.items()},
            )
        )
    return run_differences


def write_comparison(output: Path, runs: Sequence[Run], *, seed: int = 0) -> dict[str, Any]:
    """Writes ``report.html``, ``report.md`` and ``results.json``; returns the content of the last."""
    differences = compare(runs, seed=seed)
    all_results = [run.results for run in runs]
    content = finite(
        {
            "version": 1,
            "runs": [
                {
                    "name": run.name,
                    "model": run.about.get("model"),
                    "scores": {part.source: asdict(part.scores.score) for part in result.parts},
                    "overall": asdict(result.overall.overall),
                }
                for run, result in zip(runs, all_results, strict=True)
            ],
            "differences_from_first": [asdict(difference) for difference in differences],
        }
    )
    title = " and ".join(run.name for run in runs) if len(runs) < 4 else f"{len(runs)} runs"
    page = render(
        "compare.html.jinja", title=title, runs=runs, all_results=all_results, differences=differences
    )
    with atomic_write(Path(output) / "results.json") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    with atomic_write(Path(output) / "report.md") as file:
        file.write(_markdown(title, runs, all_results, differences))
    with atomic_write(Path(output) / "report.html") as file:
        file.write(page)
    return content


def _markdown(
    title: str, runs: Sequence[Run], all_results: Sequence[Results], differences: Sequence[RunDifference]
) -> str:
    lines = [f"## {title}", "", "| benchmark | " + " | ".join(run.name for run in runs) + " |"]
    lines.append("|---|" + "---:|" * len(runs))
    for parts in zip(*(result.parts for result in all_results), strict=True):
        cells = (f"{number(p.scores.score.value)} ({interval(p.scores.score)})" for p in parts)
        lines.append(f"| {parts[0].source} | " + " | ".join(cells) + " |")
    lines += ["", f"Accuracy minus that of {runs[0].name}, on the same comparisons:", ""]
    lines += ["| run | source | difference | 95% interval | McNemar p | n |", "|---|---|---:|---:|---:|---:|"]
    for difference in differences:
        for source, d in {**difference.sources, "**all**": difference.overall}.items():
            lines.append(
                f"| {difference.name} | {source} | {signed(d.difference)} "
                f"| {signed(d.low)} to {signed(d.high)} | {d.p_value:.3g} | {d.n} |"
            )
    return "\n".join([*lines, ""])

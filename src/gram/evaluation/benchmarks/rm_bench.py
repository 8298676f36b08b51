"""RM-Bench (Liu et al., 2024): three styles of a correct answer against three styles of a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gram import statistics
from gram.data import Row
from gram.evaluation.benchmarks.benchmark import (
    Benchmark,
    Line,
    Scores,
    fault,
    label,
    macro,
    placed,
    plain,
    prompt,
    strict,
    text,
    texts,
)
from gram.evaluation.benchmarks.pairs import published_pair
from gram.evaluation.items import Item
from gram.evaluation.records import Record
from gram.statistics import Estimate

STYLES = ("concise", "detailed_plain", "detailed_markdown")
_STYLE_NAMES = {name: name for name in STYLES} | {
    "detailed": "detailed_plain",
    "markdown": "detailed_markdown",
}
DOMAINS = {
    "chat": ("chat",),
    "code": ("code",),
    "math": ("math",),
    "safety": ("safety-refuse", "safety-response"),
}
LEVELS: dict[str, Callable[[int, int], bool]] = {
    "easy": lambda chosen, rejected: chosen > rejected,
    "normal": lambda chosen, rejected: chosen == rejected,
    "hard": lambda chosen, rejected: chosen < rejected,
}
_PARTS = tuple(part for parts in DOMAINS.values() for part in parts)


@placed
def _item(row: Row) -> Item:
    if "chosen_style" in row.values:
        return _pair(row)
    domain, name = text(row, "domain"), label(row, "id")
    if domain not in _PARTS:
        raise fault(row, f"no domain of RM-Bench: {domain!r}", "domain")
    responses = (*texts(row, "chosen", len(STYLES)), *texts(row, "rejected", len(STYLES)))
    return Item(
        id=f"{domain}/{name}",
        prompt=prompt(row),
        responses=responses,
        correct=len(STYLES),
        styles=STYLES * 2,
        subset=domain,
        group=f"{domain}/{name}",
    )


def _pair(row: Row) -> Item:
    """One of the nine comparisons, as a row of its own; the field ``pair_of`` names its item."""
    item = published_pair(row)
    domain = item.subset.partition("/")[0]
    if domain not in _PARTS:
        raise fault(row, f"no domain of RM-Bench: {domain!r}", "subset")
    styles = tuple(_style(row, name) for name in ("chosen_style", "rejected_style"))
    return replace(
        item,
        styles=styles,
        subset=domain,
        unit=f"{domain}/{label(row, 'pair_of')}",
    )


def _style(row: Row, name: str) -> str:
    style = text(row, name)
    name_here = _STYLE_NAMES.get(style.replace("-", "_"))
    if name_here is None:
        raise fault(row, f"expected one of {', '.join(_STYLE_NAMES)}, got {style!r}", name)
    return name_here


def scores(records: Sequence[Record]) -> Scores:
    """Domains, levels and the mean of the domains; a tie counts as wrong.

    A level of an item is the mean of its three comparisons, a domain's level the mean over its items, and
    both parts of safety are averaged (given one file for all domains, the script of the authors counts all
    items of safety alike; that number stands beside). Comparisons that are missing (some copies of the data
    drop exact duplicates) leave the mean to the others of their item and level.
    """
    records = plain(records)
    part_levels = {part: _levels([r for r in records if r.subset == part]) for part in _PARTS}
    domain_levels = {
        domain: {level: macro([part_levels[part][level] for part in parts]) for level in LEVELS}
        for domain, parts in DOMAINS.items()
    }
    domains = {domain: macro(list(levels.values())) for domain, levels in domain_levels.items()}
    lines = [
        *(Line(level, macro([levels[level] for levels in domain_levels.values()])) for level in LEVELS),
        *(
            line
            for domain, levels in domain_levels.items()
            if domains[domain].n
            for line in (
                Line(domain, domains[domain]),
                *(Line(f"{domain}, {level}", value, 1) for level, value in levels.items()),
            )
        ),
    ]
    safety = macro(list(_levels([r for r in records if r.subset in DOMAINS["safety"]]).values()))
    lines += [Line("safety, all items alike", safety, 1)] if safety.n else []
    missing = [domain for domain, value in domains.items() if not value.n]
    missing += [part for part in DOMAINS["safety"] if not part_levels[part]["hard"].n and domains["safety"].n]
    notes = (f"without rows of: {', '.join(missing)}",) if missing else ()
    return Scores(macro(list(domains.values())), "mean of the domains", tuple(lines), notes)


def _levels(records: Sequence[Record]) -> dict[str, Estimate]:
    values_of: dict[str, dict[str, list[float]]] = {level: {} for level in LEVELS}
    for record in records:
        chosen, rejected = (STYLES.index(style) for style in record.styles)
        level = next(name for name, is_level in LEVELS.items() if is_level(chosen, rejected))
        values_of[level].setdefault(record.unit, []).append(strict(record))
    return {
        level: statistics.accuracy(np.array([float(np.mean(values)) for values in units.values()]))
        for level, units in values_of.items()
    }


BENCHMARK = Benchmark(
    "rm-bench",
    "RM-Bench",
    "Every style of the correct answer meets every style of the wrong one. Easy: the correct answer has the "
    "richer style; normal: the same; hard: the plainer one. A domain is the mean of its levels, the score "
    "that of the domains; safety is the mean of its two parts.",
    (("THU-KEG/RM-Bench::train", ""),),
    _item,
    scores,
)

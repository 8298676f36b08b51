"""The page of one run. Knows results; computes nothing but what a picture needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from gram.evaluation import Record, Results
from gram.files import atomic_write
from gram.report.markdown import count, interval, number, signed
from gram.report.pictures import pictures


def write_page(
    path: Path, results: Results, records: Sequence[Record], about: Mapping[str, Any], title: str
) -> Path:
    """Writes the page in one step, and returns its path; equal results give equal bytes."""
    text = render(
        "run.html.jinja",
        title=title,
        results=results,
        about=about,
        pictures=pictures(results, records),
        floors=list(results.overall.overall.floors),
    )
    with atomic_write(path) as file:
        file.write(text)
    return path


def render(template: str, **values: Any) -> str:
    """A template of this package, filled; everything in it is escaped."""
    import jinja2

    folder = files("gram.report")
    loader = jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "signed": signed, "interval": interval, "count": count}
    return environment.get_template(template).render(**values)

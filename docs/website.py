"""Puts the pages of the docs site together: ``python docs/website.py`` fills build/pages, which MkDocs reads.

The site has what lies in docs/, the tables of commands and options, which are made from the code, and every
other file of the repository that a page links to (a Markdown file becomes a page, and so on from there). Such
files get a place below ``repository/``, and links are rewritten to lead from page to page. Knows nothing of
MkDocs, so that a test can look at the pages without it.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "pages"
ELSEWHERE = "repository"
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")  # a relative target, with or without an anchor
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$", re.DOTALL)
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def write(folder: Path) -> list[Path]:
    """Fill ``folder`` with all pages and what they show; what was there is removed.

    Returns:
        The pages, in ``folder``.

    Raises:
        FileNotFoundError: a link leads nowhere; names the page and the target.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    waiting, done = sorted(DOCS.rglob("*.md")), {}
    while waiting:
        source = waiting.pop()
        if source in done:
            continue
        page = folder / _place(source)
        page.parent.mkdir(parents=True, exist_ok=True)
        done[source] = page
        if source.suffix == ".md":
            text = source.read_text(encoding="utf-8")
            waiting += [target for target in _targets(source, text) if DOCS not in target.parents]
            page.write_text(_filled(_linked(source, text)), encoding="utf-8")
        else:
            shutil.copyfile(source, page)
    return sorted(page for page in done.values() if page.suffix == ".md")


def _place(source: Path) -> Path:
    """Where a file of the repository stands in the site."""
    if source.suffix == ".md" and source.with_suffix(".html").exists():  # the page would have that name
        source = source.with_stem(f"{source.stem}-markdown")
    if DOCS in source.parents:
        return source.relative_to(DOCS)
    return Path(ELSEWHERE) / source.relative_to(ROOT)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """``text`` with ``change`` made to all of it but code."""
    parts = _CODE.split(text)  # code at the odd places
    return "".join(part if k % 2 else change(part) for k, part in enumerate(parts))


def _targets(source: Path, text: str) -> Iterator[Path]:
    for part in _CODE.split(text)[::2]:
        for link in _LINK.finditer(part):
            target = (source.parent / link[2]).resolve()
            if not target.is_file():
                raise FileNotFoundError(f"{source.relative_to(ROOT)}: no file {link[2]}")
            yield target


def _linked(source: Path, text: str) -> str:
    """``text`` with links between the places of files in the site."""
    start = _place(source).parent

    def moved(link: re.Match[str]) -> str:
        target = _place((source.parent / link[2]).resolve())
        return f"{link[1]}{Path(os.path.relpath(target, start)).as_posix()}{link[3]}"

    return outside_code(text, lambda part: _LINK.sub(moved, part))


def _filled(text: str) -> str:
    """``text`` with the commands at their mark, where it has one."""
    mark = "<!-- commands -->"
    if mark not in text:
        return text
    commands = runpy.run_path(str(DOCS / "command_pages.py"))["commands"]
    return text.replace(mark, commands())


def with_formulas(text: str) -> str:
    """A page that has formulas with MathML in place of TeX, so that no script has to run in the browser."""
    from latex2mathml.converter import convert  # pyright: ignore[reportMissingImports]  # of the extra docs

    if "$$" not in text:
        return text  # a dollar is a dollar

    def drawn(formula: re.Match[str]) -> str:
        if formula[1]:
            return convert(formula[1], display="block")
        return f"<span>{convert(formula[2])}</span>"  # a line that begins with <math> would be a block

    return outside_code(text, lambda part: _FORMULA.sub(drawn, part))


if __name__ == "__main__":
    pages = write(PAGES)
    for page in pages:
        page.write_text(with_formulas(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{len(pages)} pages in {PAGES.relative_to(ROOT)}", file=sys.stderr)

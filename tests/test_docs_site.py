"""The docs site: every link leads to a page and a heading, every page is in the menu, every option is listed.

The pages are those that ``make docs`` gives to MkDocs; MkDocs itself is not needed.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import gram
from gram.cli.main import COMMANDS
from gram.config_file import option_of
from gram.modeling.manifest import Manifest

ROOT = Path(__file__).resolve().parents[1]
WEBSITE = runpy.run_path(str(ROOT / "docs" / "website.py"))
CODE = re.compile(r"^ *(```|~~~).*?^ *\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    assert len(WEBSITE["write"](folder)) > 25
    return folder


def without_code(text: str) -> str:
    return CODE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page: its headings as GitHub and the site have them, ``{ #name }``, and API names.

    Example:
        >>> sorted(anchors("# Two words, `code`\\n## A { #b }\\n::: gram.load"))
        ['b', 'gram.load', 'two-words-code']
    """
    found, blocks = set(), re.sub(r"^ *(```|~~~).*?^ *\1", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} +(.+?) *$", blocks, re.MULTILINE):
        if named := re.search(r"\{ #([\w.-]+) \}$", heading):
            found.add(named[1])
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-"))
    return found | set(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))


def links(text: str) -> Iterator[tuple[str, str]]:
    """Relative links: the file (empty: the page itself) and the anchor (empty: none)."""
    for target in re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", without_code(text)):
        if "://" not in target and not target.startswith("mailto:"):
            file, _, anchor = target.partition("#")
            yield file, anchor


def broken(page: Path) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    for file, anchor in links(text):
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            yield f"{page.name}: no file {file}"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text(encoding="utf-8")):
            yield f"{page.name}: no heading #{anchor} in {target.name}"


def test_every_link_of_the_site_leads_to_a_page_and_a_heading(site: Path) -> None:
    assert [line for page in sorted(site.rglob("*.md")) for line in broken(page)] == []


def test_every_link_on_github_leads_to_a_page_and_a_heading() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").glob("*.md")]
    assert len(pages) > 25
    assert [line for page in sorted(pages) for line in broken(page)] == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """One good link of each kind, and one bad one of each kind."""
    (tmp_path / "other.md").write_text("# The `first` part\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md) [b](other.md#the-first-part) [c](#page)\n"
        "[d](https://example.org#x) `[e](no.md)`\n"
        "[f](gone.md) [g](other.md#second) [h](#nothing)\n"
    )
    assert list(broken(page)) == [
        "page.md: no file gone.md",
        "page.md: no heading #second in other.md",
        "page.md: no heading #nothing in page.md",
    ]


def test_every_page_of_docs_is_in_the_menu() -> None:
    """Pages from elsewhere in the repository need not be."""
    places = {WEBSITE["_place"](page).as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert places <= set(_leaves(menu())), "a page of docs/ needs a line under nav: in mkdocs.yml"


def test_guides_hold_no_results() -> None:
    """A table with intervals or seeds' spreads is a result, and has a page under Results."""
    [guides] = [part["Guides"] for part in menu() if "Guides" in part]
    pages = list(_leaves(guides))
    assert len(pages) > 8
    result = re.compile(r"^\|.*(\[\d?\.?\d+, \d?\.?\d+\]|\d ± \d)", re.MULTILINE)
    assert result.search((ROOT / "docs" / "results-ranking.md").read_text())
    assert [page for page in pages if result.search((ROOT / "docs" / page).read_text())] == []


def menu() -> Any:
    """What stands under ``nav`` in mkdocs.yml."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1])


def _leaves(part: Any) -> Iterator[str]:
    match part:
        case str():
            yield part
        case list():
            for item in part:
                yield from _leaves(item)
        case dict():
            for item in part.values():
                yield from _leaves(item)


def test_every_public_name_is_in_the_reference() -> None:
    """Of ``gram`` on the page of the API, of ``gram.json`` in the text that its page is made of."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    names = re.findall(r"^(?:::: |## )(gram\.[\w.]+)", page, re.MULTILINE)
    shown = {name.rpartition(".")[2] for name in names}
    assert set(gram.__all__) - {"GramError"} <= shown and "errors" in shown  # that module is shown whole
    text = (Manifest.__doc__ or "").split("Attributes:")[1]
    listed = {
        name
        for names in re.findall(r"^        ([\w, ]+): ", text, re.MULTILINE)
        for name in names.split(", ")
    }
    assert {item.name for item in fields(Manifest)} <= listed


def test_every_option_of_every_command_is_on_the_page(site: Path) -> None:
    """With a text that says what it does, in the section of the command or in one it links to."""
    page = (site / "reference" / "commands.md").read_text()
    own, shared = page.split("## Options that several commands share")
    for command in COMMANDS:
        section = re.split(r"^## ", own.split(f"## gram {command}\n")[1], flags=re.MULTILINE)[0]
        for anchor in re.findall(r"\(#(\w+)\)", section):
            section += re.split(r"^### ", shared.split(f"{{ #{anchor} }}")[1], flags=re.MULTILINE)[0]
        cells = [re.split(r"(?<!\\)\|", line) for line in section.splitlines() if line.startswith("| `")]
        rows = {re.findall(r"`(?:--)?([\w-]+)`", flag)[0].lower(): text for _, flag, _, text, _ in cells}
        for item in fields(import_module(f"gram.cli.{command}").Config):
            name = option_of(item.name).replace("_", "-")
            if item.init:
                assert len(rows[name].split()) >= 2, f"gram {command}: {name}"

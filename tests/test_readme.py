"""What the README and the guide show works as shown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gram.cli.main import COMMANDS
from gram.config_file import option_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


@pytest.mark.usefixtures("base_of_gram_135m")
def test_the_python_of_the_readme_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Words are equal, numbers to what bf16 and other processors round."""
    text = (ROOT / "README.md").read_text()
    [(code, shown)] = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    number = r"-?\d+\.\d*"
    assert re.sub(number, "#", printed).split() == re.sub(number, "#", shown).split()
    found, wanted = (np.array(re.findall(number, part), dtype=float) for part in (printed, shown))
    np.testing.assert_allclose(found, wanted, atol=0.15)


def test_every_command_and_option_shown_exists() -> None:
    """Of the commands in code blocks; options are fields of the command's configuration, or ``--config``."""
    from importlib import import_module

    shown = 0
    for page in PAGES:
        for block in page.read_text().split("```")[1::2]:
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"\s*gram (\w+)(.*)", line)
                if found is None or found[1] == "COMMAND":
                    continue
                shown += 1
                assert found[1] in COMMANDS, line
                config = import_module(f"gram.cli.{found[1]}").Config
                options = {"config", "help", *map(option_of, config.__dataclass_fields__)}
                for option in re.findall(r"--([a-z][a-z-]*)", found[2]):
                    assert option.replace("-", "_") in options, line
    assert shown >= 9


def test_links_lead_somewhere() -> None:
    links = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            links += 1
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert links >= 10

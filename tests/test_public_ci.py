"""The workflow for a public host and the hooks for commits run what `.ci/run` and `make check` run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_the_same_commands_on_every_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert steps(jobs["all"]) == ["bash .ci/run"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = jobs["all"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {version}" for version in versions] == [
        name for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)
    ]
    made = [re.fullmatch(r"make ([a-z-]+) PYTHON=python", step) for step in steps(jobs["quick"])]
    assert len(made) == 2 and all(found and found[1] in TARGETS for found in made)


def test_the_hooks_run_the_tools_of_make_check() -> None:
    """With the versions of ``.venv``; each tool stands in the rule ``check`` of the Makefile."""
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = local["hooks"]
    rule = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    assert len(hooks) == 3
    for hook in hooks:
        tool = hook["entry"].removeprefix(".venv/bin/").split(" --")[0]
        assert f"$(BIN)/{tool}" in rule, tool


def test_the_forms_can_be_filled_in() -> None:
    """As the host reads them: a name, a description, and fields with labels and ids of their own."""
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form["name"] and form["description"]
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids) > 1
        assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])

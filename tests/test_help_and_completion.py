"""What a newcomer reads: ``--help`` as a page, the nearest name for a wrong one, and shell completion."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from gram.bounds import Within
from gram.cli.main import COMMANDS, main
from gram.described import described, help_page, title_of

Say = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Shared:
    """Where it runs: a heading ends at the colon."""

    device: str | None = None
    """Default: the fastest
    there is."""


@dataclass(frozen=True, kw_only=True)
class Run(Shared):
    """Run something.

    A second paragraph.
    """

    what: tyro.conf.Positional[Literal["all", "some"]]
    """Which ones."""
    share: Annotated[float, Within(0, 1)] = 0.5
    """How much of it."""

    # --- What it reads ---
    files: list[Path] = field(default_factory=list)
    """What to read."""
    quick: bool = False
    """In a hurry."""


def test_a_page_of_help_to_the_letter() -> None:
    """Required first, then its own options, then those of the class above; written by hand."""
    assert (
        help_page(Run, "gram run", 70)
        == """\
usage: gram run {all,some} [OPTIONS]

Run something.

A second paragraph.

Required:
  {all,some}                Which ones.

Options:
  --share NUMBER            How much of it. (in [0, 1]; default: 0.5)

What it reads:
  --files PATH ...          What to read.
  --quick                   In a hurry.

Where it runs:
  --device TEXT             Default: the fastest there is.

--config FILE.yaml gives any of these options, by the same names;
flags win. A switch --name is turned off by --no-name."""
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_every_option_with_a_text(name: str) -> None:
    kind = import_module(f"gram.cli.{name}").Config
    page = help_page(kind, f"gram {name}", 100)
    assert max(map(len, page.splitlines())) <= 100 and "None" not in page
    assert page.startswith(f"usage: gram {name} ")
    for option in described(kind):
        assert len(option.text.split()) > 1 and option.text.endswith((".", ")")), option.name
        shown = option.value if option.positional and option.choices else option.flag
        assert [line for line in page.splitlines() if line.split()[:1] == [shown]], shown
        if option.owner is not kind:
            assert re.fullmatch(r"[A-Z][\w, ]+", title_of(option.owner)), title_of(option.owner)


@pytest.mark.parametrize("name", ["serve", "doctor"])
def test_a_command_without_servers_offers_none(name: str, say: Say, tmp_path: Path) -> None:
    """It refuses a model on one; options of how such a model is called are none, in a file neither."""
    _, page, _ = say(name, "--help")
    words = " ".join(page.split())
    assert "remote judge" not in words and "gram serve, or openai" not in words
    for flag in ("--tokenizer", "--connections", "--deadline", "--spend", "--cache"):
        code, _, err = say(name, "--model", "m", flag, "3")
        assert flag not in words and (code, err.startswith(f"gram {name}: no option {flag}")) == (2, True)
    (tmp_path / "run.yaml").write_text("spend: 3\n")
    code, _, err = say(name, "--model", "m", "--config", str(tmp_path / "run.yaml"))
    assert code == 1 and "unknown option 'spend'" in err


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("scroe", "gram: no command 'scroe'; did you mean score?"),
        ("score --modle m", "gram score: no option --modle; did you mean --model?"),
        ("score --max_lenght=3", "gram score: no option --max_lenght; did you mean --max-length?"),
        (
            "train --lr 1",
            "gram train: no option --lr; did you mean --lora-rank or --learning-rate?",
        ),
        (
            "train --num-train-epochs 3",  # transformers' name
            "gram train: no option --num-train-epochs; did you mean --epochs?",
        ),
        (
            "score --kind likelyhood",
            "gram score: --kind must be one of judge, likelihood, scalar, not 'likelyhood'; "
            "did you mean likelihood?",
        ),
        (
            "score --engine=magic",
            "gram score: --engine must be one of tree, plain, not 'magic'",
        ),
        ("score --no-model", "gram score: no option --no-model; did you mean --model?"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest(line: str, answer: str, say: Say) -> None:
    code, out, err = say(*line.split())
    assert (code, out, err.splitlines()[0]) == (2, "", answer)


def test_right_words_pass(say: Say, tmp_path: Path) -> None:
    """Underscores, ``=``, ``--no-``, ``--config``: what fails here is the file that is not there."""
    (tmp_path / "run.yaml").write_text("kind: judge\n")
    line = f"score --model m --input gone.jsonl --output {tmp_path}/o.jsonl --max_length=3 --no-single-order"
    code, _, err = say(*line.split(), "--engine", "plain", "--config", str(tmp_path / "run.yaml"))
    assert code == 1 and "gone.jsonl" in err


def test_an_option_of_a_file_is_answered_with_the_nearest(say: Say, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("learning_rat: 0.1\n")
    code, _, err = say("train", "--config", str(path))
    assert code == 1
    assert err == f"gram train: {path}: unknown option 'learning_rat'; did you mean learning-rate?\n"


@pytest.mark.parametrize("arguments", [["help", "score"], ["score", "-h"]])
def test_other_ways_to_ask_for_help(arguments: list[str], say: Say) -> None:
    code, out, err = say(*arguments)
    assert (code, err) == (0, "") and out.startswith("usage: gram score --model TEXT")


def test_completion_in_bash() -> None:
    """The script is read by a real bash, and asked as bash asks it when TAB is pressed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    gram = [sys.executable, "-m", "gram", "--print-completion", "bash"]
    script = subprocess.run(gram, capture_output=True, text=True, check=True).stdout
    asked = """
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _tyro_gram; echo "${COMPREPLY[@]}"; }
    try gram tr
    try gram score --kin
    try gram score --conf
    """
    done = subprocess.run([bash, "-c", script + asked], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:3] == ["train", "--kind", "--config"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_for_other_shells(shell: str, say: Say) -> None:
    code, out, err = say("--print-completion", shell)
    assert (code, err) == (0, "") and all(name in out for name in COMMANDS)


@pytest.mark.parametrize("shells", [[], ["powershell"], ["bash", "zsh"]])
def test_a_shell_without_completion_is_refused(shells: list[str], say: Say) -> None:
    code, out, err = say("--print-completion", *shells)
    assert (code, out) == (1, "")
    assert err == "gram --print-completion: give the name of one shell: bash, zsh, fish\n"

"""Every command in a code block of README.md and docs/ runs, in a folder with nothing of ours around it.

A page's commands run in their order, each with exit code 0 and, of ``gram``, a JSON line. What they name is
made small (``shown_things.py``). What they write is not there before, as two commands of a page may be one
or the other. The tables below say what is added to a command, which ones have a test of their own because
they take long, and which cannot run here. A command that stands in none of them is run, and a line of a
table that fits no command is an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import gram
from fake_servers import Fake, running
from gram.cli.main import main
from served import Here, serving
from shown import PAGES, ROOT, blocks, commands, words
from shown_things import ON_HUB, Made, Things, named_in, put_on_hub, write_rows, written_by
from stand_in_hub import hub_at_work
from test_hub_configs import stand_in
from test_plan import QWEN3_8B
from test_published_scalars import attributes_folder
from test_push import environment as pushing
from test_serving_command import command as server_of
from without import gram_without

RUN_BY = {
    "docs/start.md": "test_tutorial.py",
    "docs/serving.md": "test_serving_docs.py",
    **dict.fromkeys(
        ("docs/example-adapt.md", "docs/example-best-of-n.md", "docs/example-grpo.md"), "test_examples_run.py"
    ),
}
"""Pages with marked blocks (``<!-- run -->``, ``<!-- shown -->``): another test runs and compares them."""
NOT_HERE = {
    "gram bulk --model runs/judge --input pairs.jsonl --output runs/scored --num-actors 64": "a cluster",
    "gram fetch smollm2-135m": "93 MB of the internet: test_fetching.py brings a toy",
    "PIP_EXTRA_INDEX_URL=INDEX make": "the internet",
    "git clone": "the internet; a script of that form lies there instead",
    "pip install": "the internet: test_wheel.py installs the wheel, test_extras.py knows the extras",
    "python examples/adapt_with_100_labels.py": "minutes: test_examples_run.py does it with --quick",
    "python examples/best_of_n.py": "minutes: test_examples_run.py does it with --quick",
    "python examples/trl_grpo_served.py --model": "minutes: test_examples_run.py does it with --quick",
    "python -m venv": "test_wheel.py makes an environment",
    "vllm serve": "needs vLLM: test_real_vllm.py starts it; fake_servers.py answers as it does",
    "torchrun --nnodes 2": "two machines",
    "accelerate launch --config_file configs/accelerate/ddp.yaml": "GPUs: test_accelerate_configs.py",
    "accelerate launch --config_file configs/accelerate/fsdp2.yaml": "two machines",
    "ACCELERATE_USE_FSDP=true": "a minute: test_training_on_processes.py does it",
    "DS_ACCELERATOR=cpu accelerate launch": "needs DeepSpeed: test_training_on_processes.py",
    "GRAM_FUZZ=50000": "hours: the same tests run with fewer rows",
    "python experiments/ranking_study.py": "an hour: test_ranking_experiments.py has its parts",
    "gram train --config experiments/harmless/": "public files that do not come with the repository",
    "python experiments/world_models.py": "half an hour; small models lie there instead",
}
"""How a command begins that cannot run here, and why."""
MORE = {
    "make": "-n",  # minutes each; so much for the targets
    "gram adapt": "--folds 2 --learning-rates 1e-3 --max-steps 2",
    "gram bench": "--quick --shape small --dtype fp32 --rounds 1",
    "gram train": "--max-steps 2",
    "python examples/trl_grpo_served.py --url": "--steps 1",
}
"""How a command begins, and the options that it gets so that it takes a moment."""
FINDS = ("gram doctor",)
"""How a command begins that may end with 1 and say why: the models here have learned nothing."""
FEWER = {
    "--nproc_per_node 8": "--nproc_per_node 2",
    "--num-actors 4": "--num-actors 1",
    "write runs/world/candidates.jsonl": "write runs/world/all.jsonl",  # four prompts are ranked, not 100
}
"""Parts of commands, and what stands there instead: this machine may have one core."""
ALONE = (
    "gram bulk --model runs/judge --input pairs.jsonl --output runs/scored --num-actors 4",
    "gram bulk --model runs/judge --input pairs.jsonl --output scored",
    "gram serve",
    "python examples/trl_grpo_served.py --url",
    "torchrun --nproc_per_node 8",
)
"""How a command begins that has a test of its own, as it takes ten seconds and more."""
TEXTS = {
    "pairs.jsonl.gz::train": "names of data",
    "pairs.jsonl:17: field": "test_a_bad_row_is_told_as_shown",
    '{"file": "pairs.jsonl", "line": 17': "test_a_bad_row_is_told_as_shown",
    "## YYYY-MM-DD": "a form",
    "sequence   prompt": "a drawing",
    "$ gram score": "test_a_missing_library_is_told_as_shown",
    "gram.load(path, **options)": "a signature",
    "memory of one GPU": "test_the_plan_is_told_as_shown",
    "--reward.remote_url": "an option of OpenRLHF: test_rl_openrlhf_client.py",
}
"""How a block without language begins that is no command, and what it is, or who compares it."""
TAKEN = {
    "docs/checkpoints.md": {"question": "why ?", "answer": "music", "asked": "Is it brief ? Yes or No ?"},
    "docs/ranking.md": {"prompt": "why ?", "responses": ["music", "the bread", "the bread is old ."]},
}
"""Names that the Python of a page takes for granted."""
_COMMENT = re.compile(r"\s+#\s.*")
ADDRESS = "http://127.0.0.1:8000"


def unmarked(page: str) -> list[str]:
    """The commands of a page that no other test runs, as they stand there."""
    found = (block for block in blocks(page) if block.has_commands and not block.mark)
    return [command.strip() for block in found for command in commands(block.text)]


def fits(command: str, table: Any) -> list[str]:
    """The lines of a table that a command begins with; white space counts once."""
    return [start for start in table if " ".join(command.split()).startswith(start)]


def quick(page: str) -> list[str]:
    return [command for command in unmarked(page) if not fits(command, (*NOT_HERE, *ALONE))]


EVERYTHING = [command for page in PAGES for command in unmarked(page)]
SLOW = ("docs/results-ranking.md", "docs/performance.md", "docs/performance-serving.md")


def slow(page: str) -> Any:
    return pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page


def python(page: str) -> list[str]:
    """The Python blocks of a page that no other test runs; test_readme.py runs that of README.md."""
    if page in (*RUN_BY, "README.md"):
        return []
    return [block.text for block in blocks(page) if block.language == "python"]


# --- Where they run ---


@pytest.fixture(scope="module")
def made(
    judge_folder: Path,
    likelihood_folder: Path,
    scalar_folder: Path,
    converted: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    hub = tmp_path_factory.mktemp("hub")
    for family, names in ON_HUB.items():
        stand_in(family, folder := tmp_path_factory.mktemp(family))
        for name in names:
            put_on_hub(hub, name, folder)
    (folder := tmp_path_factory.mktemp("plan") / "of").mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN3_8B))
    put_on_hub(hub, "Qwen/Qwen3-8B", folder)
    put_on_hub(hub, "owner/adapter", adapter_of(converted, tmp_path_factory.mktemp("peft")))
    put_on_hub(hub, "owner/name", judge_folder)
    return Made(judge_folder, likelihood_folder, scalar_folder, converted, hub)


def adapter_of(base: Path, folder: Path) -> Path:
    """As peft saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    get_peft_model(model, lora).save_pretrained(str(folder))
    return folder


class Shell:
    """Runs commands in a folder. Those of ``gram`` run in this process, the others by bash."""

    def __init__(self, folder: Path, made: Made, capsys: pytest.CaptureFixture[str], address: str) -> None:
        self.folder, self.made, self.address, self._capsys = folder, made, address, capsys
        self.things = Things(folder, made, lambda command: self.gram(words(command)))

    def prepare(self, command: str) -> str:
        """``command`` with what the tables add; what it names is there, and what it writes is not."""
        command = command.replace(ADDRESS, self.address)
        for part, less in FEWER.items():
            command = command.replace(part, less)
        for name in written_by(words(command)):
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        for name in (*("Makefile", "pyproject.toml", "constraints.txt"), *named_in(words(command))):
            self.things.provide(name)
        for start in fits(command, MORE):
            command = _COMMENT.sub("", command) + " " + MORE[start]
        return command

    def gram(self, command: list[str]) -> tuple[dict[str, Any], str]:
        """Its JSON line, and what it says on stderr; the exit code is 0, or another as ``FINDS`` has it."""
        assert command[0] == "gram"
        self._capsys.readouterr()
        code = main(command[1:])
        out, told = self._capsys.readouterr()
        result = json.loads(out.splitlines()[-1]) if out else {}
        assert code <= len(fits(" ".join(command), FINDS)) and result, f"{' '.join(command)}\n{told}"
        return result, told

    def bash(self, command: str, environment: dict[str, str] | None = None) -> str:
        """What it prints; the exit code is 0, of ``gram`` in it too. Nothing here installs or removes."""
        assert not re.search(r"\b(pip|git|uv|conda|rm|sudo)\b", command), f"{command}: name it in NOT_HERE"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        source = os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
        inherited = os.environ if environment is None else environment
        script = f'gram() {{ "{sys.executable}" -m gram "$@"; }}\n{command}'
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**inherited, "PATH": path, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    def run(self, command: str) -> None:
        """Run a command, and see that what it writes is there."""
        ready = self.prepare(command)
        if ready.startswith("gram push") and "--dry-run" not in ready:
            with hub_at_work() as hub:
                result = json.loads(self.bash(ready, pushing(hub, self.folder)))
            assert result and hub.repositories
        elif ready.startswith("gram "):
            self.gram(words(ready))
        else:
            self.bash(ready)
        names = [name for name in written_by(words(ready)) if "$" not in name]
        missing = [name for name in names if not (self.folder / name).exists()]
        assert not missing, f"{ready}: {missing}"


@pytest.fixture
def shell(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    """In an empty folder in an empty folder, with a server that answers as OpenAI's does."""
    (folder := tmp_path / "alone" / "here").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(made.hub))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("GRAM_VLLM", f"{sys.executable} {ROOT / 'tests' / 'vllm_stand_in.py'}")
    with running(Fake()) as fake:
        monkeypatch.setattr("gram.scoring.remote.address.OF_OPENAI", fake.v1)
        yield Shell(folder, made, capsys, fake.url)


# --- All of them ---


def test_every_command_is_run_or_has_a_reason() -> None:
    """No line of a table is left over, and each command has one of them at most."""
    assert len(EVERYTHING) > 90
    for table in (NOT_HERE, MORE, ALONE, FINDS):
        assert [start for start in table if not any(fits(command, [start]) for command in EVERYTHING)] == []
    for command in EVERYTHING:
        assert len(fits(command, (*NOT_HERE, *ALONE))) <= 1 >= len(fits(command, MORE)), command
    for part in FEWER:
        assert any(part in command for command in EVERYTHING), part
    marked = {b.page for page in PAGES for b in blocks(page) if b.mark.startswith(("run", "shown"))}
    assert marked == {*RUN_BY}
    assert all((ROOT / "tests" / name).exists() for name in RUN_BY.values())


def test_every_other_block_is_known() -> None:
    """One without a language is commands, or a line of ``TEXTS``, or marked; test_readme.py has README.md."""
    pages = [page for page in PAGES if page != "README.md"]
    found = [b.text for p in pages for b in blocks(p) if not (b.language or b.mark or b.has_commands)]
    assert [text for text in found if not any(text.startswith(start) for start in TEXTS)] == []
    assert [start for start in TEXTS if not any(text.startswith(start) for text in found)] == []


@pytest.mark.parametrize("page", [slow(page) for page in PAGES if quick(page)])
def test_the_commands_of_a_page_run(page: str, shell: Shell) -> None:
    for command in quick(page):
        shell.run(command)


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)])
def test_the_python_of_a_page_runs(page: str, shell: Shell) -> None:
    """Block by block, with what its texts name."""
    for text in python(page):
        for name in re.findall(r'"([^"\n]+)"', text):
            shell.things.provide(name)
        if "attributes" in text:
            (shell.folder / "attributes").mkdir()
            attributes_folder(shell.folder / "attributes")
        exec(compile(text, page, "exec"), dict(TAKEN.get(page, {})))


# --- Alone, as they take long ---


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", [start for start in ALONE if not start.startswith(("gram serve", "python"))]
)
def test_a_long_command_runs(start: str, shell: Shell) -> None:
    """In a process: Ray, several processes of torchrun, five models one after the other."""
    [command] = {command for command in EVERYTHING if fits(command, [start])}
    ready = shell.prepare(command)
    printed = shell.bash(ready).splitlines()
    assert json.loads(printed[-1])


@pytest.mark.slow
def test_grpo_with_a_served_judge_runs(shell: Shell) -> None:
    [command] = {
        command for command in EVERYTHING if fits(command, ["python examples/trl_grpo_served.py --url"])
    }
    with serving(Here(gram.load(shell.made.judge))) as server:
        shell.bash(f"{shell.prepare(command)} --url {server.url}")
    assert [*(shell.folder / "runs" / "grpo").rglob("model.safetensors")]


SERVED = sorted({" ".join(words(command)) for command in EVERYTHING if fits(command, ["gram serve"])})


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVED)
def test_a_shown_server_starts_and_ends(command: str, shell: Shell) -> None:
    shell.prepare(command)
    with server_of(*words(command)[2:]) as server:
        assert server.stop()["requests"] == 0


# --- What the pages say comes out ---


def told(page: str, start: str) -> str:
    """The block of a page that begins so."""
    [text] = [block.text for block in blocks(page) if block.text.startswith(start)]
    return text


def test_the_plan_is_told_as_shown(shell: Shell) -> None:
    """The lines that are shown are among those that come, in that order, but for the width of columns."""
    [command] = [
        command for command in unmarked("docs/scaling.md") if "plan" in command and "--gpus 8" in command
    ]
    _, err = shell.gram(words(shell.prepare(command)))
    lines = (line.split() for line in err.splitlines())
    for line in told("docs/scaling.md", "memory of one GPU").splitlines():
        assert line.split() in lines, line


def test_a_bad_row_is_told_as_shown(shell: Shell) -> None:
    """Row 17 of docs/data-formats.md, behind 16 good ones: the error, and what is set aside."""
    page = "docs/data-formats.md"
    aside = json.loads(told(page, '{"file": "pairs.jsonl"'))
    good = [{"prompt": f"{k} ?", "chosen": "yes", "rejected": "no"} for k in range(16)]
    write_rows(shell.folder / "pairs.jsonl", [*good, aside["row"]])
    command = words("gram convert --input pairs.jsonl --to trl --output trl.jsonl")
    with pytest.raises(AssertionError, match=re.escape(told(page, "pairs.jsonl:17"))):
        shell.gram(command)
    result, _ = shell.gram([*command, "--on-error", "skip"])
    [rejects] = [path for path in shell.folder.iterdir() if "reject" in path.name]
    assert json.loads(rejects.read_text()) == aside, result


def test_a_missing_library_is_told_as_shown(shell: Shell) -> None:
    first, answer = told("docs/installing.md", "$ gram score").splitlines()
    command = first.removeprefix("$ ")
    done = gram_without(["torch"], *words(shell.prepare(command))[1:])
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, answer)

"""The things that shown commands name: models, rows and files, small, made when a command asks for them."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from conftest import make_preferences
from shown import ROOT

COPIED = (
    "configs",
    "data",
    "docs",
    "examples",
    "experiments",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
)
"""Of the repository, copied as a whole where a command names something in it."""
OUTPUTS = ("--output", "--plot", "--picture", "--cache", ">")
"""What follows is written, and not there before."""
HUB_SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Made:
    """Models of the session, by kind: folders to copy.

    Attributes:
        language: as transformers saves it, without ``gram.json``.
        hub: where models with Hub names lie, as huggingface_hub keeps them.
    """

    judge: Path
    likelihood: Path
    scalar: Path
    language: Path
    hub: Path


def named_in(words: list[str]) -> Iterator[str]:
    """What a command reads, perhaps: its words without what it writes, ``::split`` and such."""
    for before, word in zip(["", *words], words, strict=False):
        if before not in OUTPUTS and not word.startswith("-"):
            yield word.split("::")[0].split("=")[-1].removeprefix("vllm:")


def written_by(words: list[str]) -> Iterator[str]:
    """The values of the options in ``OUTPUTS``."""
    for before, word in pairwise(words):
        if before in OUTPUTS:
            yield word


class Things:
    """Makes what commands name, in a folder.

    Args:
        gram: runs a command line there; some things are what another command leaves.
    """

    def __init__(self, folder: Path, made: Made, gram: Callable[[str], Any]) -> None:
        self.folder, self.made, self.gram = folder, made, gram

    def provide(self, name: str) -> None:
        """Make the thing of that name, if it is one, and not there."""
        place = self.folder / name
        if place.exists() or place.is_symlink():
            return
        if (top := name.split("/")[0]) in COPIED:
            self._copy(top)
        elif name in MODELS:
            shutil.copytree(getattr(self.made, MODELS[name]), place)
        elif name in FILES:
            write_rows(place, FILES[name]())
        elif name in OF_COMMANDS:
            for word in (command := OF_COMMANDS[name]).split():
                self.provide(word.split("::")[0])
            self.gram(f"{command} --output {name}")
        elif name in TEXTS:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(TEXTS[name])
            for word in re.findall(r"[\w-]+[./][\w./-]+", TEXTS[name]):
                self.provide(word)
        elif name == "FOLDER":
            write_rows(place / "pool.jsonl.gz", contests())

    def _copy(self, name: str) -> None:
        if (place := self.folder / name).exists():
            return
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, place)


def pairs(*, side: bool = True) -> list[dict[str, Any]]:
    """24 labeled rows, half of them of a test split; without ``side`` of no split."""
    return [
        {"id": item.id, "prompt": item.pair.prompt[-1].content, "chosen": item.pair.a}
        | {"rejected": item.pair.b, "title": f"row {k}", "group": f"g{k // 2}"}
        | ({"split": "test" if k % 2 else "train"} if side else {})
        for k, item in enumerate(make_preferences(24, seed=4))
    ]


def contests() -> list[dict[str, Any]]:
    """Four prompts with four answers each."""
    answers = [item.pair.a for item in make_preferences(16, seed=5)]
    return [
        {"id": f"c{k}", "prompt": f"what is the {k} ?", "responses": answers[4 * k : 4 * k + 4]}
        for k in range(4)
    ]


def _graded() -> list[dict[str, Any]]:
    return [row | {"gold": [0.0, 0.5, 0.5, 1.0]} for row in contests()]


def _german() -> list[dict[str, Any]]:
    return [{"frage": row["prompt"], "gut": row["chosen"], "schlecht": row["rejected"]} for row in pairs()]


def _rm_bench() -> list[dict[str, Any]]:
    row = {"prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]}
    return [row | {"id": k, "domain": "chat"} for k in range(4)]


def _judgebench() -> list[dict[str, Any]]:
    row = {"source": "mmlu-pro-law", "question": "q", "response_model": "gpt-4o", "label": "B>A"}
    row |= {"response_A": "b", "response_B": "a"}
    return [row | {"pair_id": f"p{k}", "original_id": k} for k in range(4)]


def _asked() -> list[dict[str, Any]]:
    return [{"prompt": f"what is the {k} ?", "reference": "the bread is old ."} for k in range(8)]


MODELS = {
    **dict.fromkeys(("runs/judge", "runs/a", "runs/b", "runs/c", "runs/desk", "gram-135m"), "judge"),
    **dict.fromkeys(("runs/pretrained",), "likelihood"),
    **dict.fromkeys(("runs/scalar",), "scalar"),
    **dict.fromkeys(("BASE", "MODEL", "smollm2-135m", "models/base", "runs/base"), "language"),
    **dict.fromkeys(("runs/dpo", "runs/sft", "runs/policy"), "language"),
    "runs/world/seed-22/judge": "judge",
    "runs/harmless/pretrained": "likelihood",
}
"""Folders of models: a name, and which of ``Made`` it is a copy of."""
FILES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    **dict.fromkeys(("preferences.jsonl", "held_out.jsonl", "test.jsonl", "pairs.parquet"), pairs),
    **dict.fromkeys(("few_labels.jsonl", "few.jsonl", "labels.jsonl", "pairs.jsonl", "rows.jsonl"), pairs),
    **dict.fromkeys(("answers.jsonl", "unlabeled.jsonl.gz", "candidates.jsonl", "contests.jsonl"), contests),
    "runs/world/candidates.jsonl": _graded,
    "pairs.csv": _german,
    "rm_bench.jsonl.gz": _rm_bench,
    "judgebench.jsonl": _judgebench,
    "prompts.jsonl": _asked,
}
OF_COMMANDS = {
    "runs/judge-lora": "gram train --model BASE --data labels.jsonl --max-steps 2 --lora --adapter kept",
    "runs/adapter": "gram train --model BASE --data labels.jsonl --max-steps 2 --lora --adapter kept",
    "an-adapter-of-trl": "gram train --model models/base --data labels.jsonl --max-steps 2 --lora "
    "--adapter kept --objective scalar",
    "runs/other": "gram eval --model runs/scalar --bench rm-bench=rm_bench.jsonl.gz "
    "judgebench=judgebench.jsonl held_out.jsonl::test",
    "runs/eval": "gram eval --model runs/judge --data held_out.jsonl::test",
}
"""What these commands leave, with ``--output`` and the name."""
TEXTS = {
    "my.yaml": "model: runs/judge\ndata: [labels.jsonl]\noutput: runs/mine\nmax-steps: 2\nbatch-size: 8\n",
    "GRAM/evaluation/gram_eval.py": 'PROMPT = """Which is better?\n{input}\n[A] {response_a}\n'
    '[B] {response_b}\n#Preferred: """\n',
}
ON_HUB = {
    "qwen3": (
        "Qwen/Qwen3-0.6B",
        *(f"wangclnlp/GRAM-Qwen3-{size}-RewardModel" for size in ("1.7B", "4B", "8B", "14B")),
    ),
    "llama": ("wangclnlp/GRAM-LLaMA3.2-3B-RewardModel", "nvidia/Llama-3.3-Nemotron-70B-Reward-Principle"),
}
"""Architectures, and the Hub names under which small random models of them lie."""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """As the name's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)


def put_on_hub(
    cache: Path, name: str, folder: Path, *, revision: str = "main", sha: str = HUB_SHA, lacks: str = ""
) -> Path:
    """``folder`` as huggingface_hub keeps a model that it has downloaded; returns its place in the cache.

    Args:
        lacks: a file that the Hub has said not to have.
    """
    place = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / sha)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / revision).write_text(sha)
    if lacks:
        (place / ".no_exist" / sha).mkdir(parents=True)
        (place / ".no_exist" / sha / lacks).touch()
    return place / "snapshots" / sha

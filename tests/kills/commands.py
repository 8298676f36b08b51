"""The commands that are killed: tiny models and a few rows, made once in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests import toy_catalogue
from tests.kills.harness import Command, Trial

_THINGS = ("bread", "silver", "music", "bridge", "window", "letter", "garden", "harbour")


def prepare() -> None:
    """Import what the commands need, and cut their work into small pieces: every piece is a write."""
    import gram.adaptation.checkpoint
    import gram.cli.adapt
    import gram.cli.eval
    import gram.cli.fetch
    import gram.cli.mine
    import gram.cli.rank
    import gram.cli.score
    import gram.cli.train
    import gram.evaluation.runner
    import gram.plots
    import gram.ranking.rows
    import gram.report
    import gram.scoring.ensemble
    import gram.scoring.rows
    import gram.training.pipeline
    from gram.modeling.quiet import quiet_libraries

    quiet_libraries()
    gram.plots.canvas()
    gram.cli.score._CHUNK = 4
    gram.ranking.rows.CHUNK = 2
    defaults = gram.evaluation.runner.evaluate.__kwdefaults__
    assert defaults is not None
    defaults["chunk"] = 4


def make_commands(place: Path) -> list[Command]:
    """The commands, with their data and models in ``place``."""
    pairs = [
        {
            "id": str(k),
            "prompt": f"what is the {a} ?",
            "chosen": f"the {a} is {b} .",
            "rejected": f"{b} {k} .",
        }
        for k, (a, b) in enumerate(zip(_THINGS * 2, _THINGS[3:] * 4, strict=False))
    ]
    contests = [
        {"id": str(k), "prompt": f"name a {a}", "responses": [f"a {b} .", f"the {a}", f"{a} and {b}"]}
        for k, (a, b) in enumerate(zip(_THINGS, _THINGS[::-1], strict=True))
    ]
    for name, rows in (("pairs", pairs), ("contests", contests)):
        (place / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    data, few = str(place / "pairs.jsonl"), str(place / "contests.jsonl")
    steps = ("--max-steps", "2", "--batch-size", "4", "--save-steps", "1", "--eval-steps", "1")
    small = ("--model", "preset:tiny", "--vocab-size", "300", "--device", "cpu", "--max-length", "512")
    train = Command(
        "train", ("train", *small, "--data", data, "--eval-data", data, *steps, "--output", "out")
    )
    first = Trial(train, place)
    ended = first.run()
    if ended.code:
        raise RuntimeError(ended.err)
    model = str(first.folder / "here" / "out")
    adapt = ("adapt", "--model", model, "--data", data, "--learning-rates", "0.001", "--max-steps", "1")
    adapt += ("--folds", "2", "--lora-rank", "2", "--device", "cpu", "--output", "out")
    score = ("score", "--model", model, "--input", data, "--output", "out.jsonl")
    os.environ["GRAM_HOME"] = "out"  # in the folder of each trial
    os.environ.pop("HF_HUB_OFFLINE", None)  # the libraries have read it already, and keep off the network
    toy_catalogue.put_in_place(toy_catalogue.make_catalogue(place / "shop", Path(model)), Path(model))
    return [
        Command("fetch", ("fetch", "toy")),
        Command("score", score),
        Command("rank", ("rank", "--model", model, "--input", few, "--output", "out.jsonl")),
        Command("mine", ("mine", "--model", model, "--input", few, "--output", "out.jsonl")),
        Command("eval", ("eval", "--model", model, "--data", data, "--output", "out")),
        Command("adapt", adapt),
        Command(
            "adapt --overwrite", (*adapt, "--overwrite"), before=first.folder / "here", keeps_the_old=True
        ),
        train,
        Command("train --overwrite", (*train.arguments, "--overwrite"), first.folder / "here"),
        Command("python -m gram score", score, real=True),
        Command("python -m gram train", train.arguments, real=True),
    ]

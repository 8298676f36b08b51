"""How often a verdict changes when the same two options are listed the other way round.

Where it stands: one public decision model chooses right with 72%, and with the options reversed with 21%; the
pipeline reads the options once, in the order given. Ours asks both orders and averages.
Our scale: a model, and real pairs of many sources: which of two answers to a request is the better one, as a
choice whose options are the answers themselves. Each pair is asked twice, the second time with its options
listed the other way round. Pairs longer than --max-length are left out, as the pipeline cuts nothing.
Expectation: ours never changes, up to ties to the last digit; the pipeline changes often with a small model.
Command: python -m experiments.option_order MODEL [--data FOLDER] [--pairs 500] [--output FILE.json]
(reads ../shared/data, see experiments/public_files.py, or what --data names, as data/held_back.jsonl.gz;
15 forward passes a pair).
Prints a table: how often the verdict changes, how often it is the better answer (mean of the two listings),
how often it is the option listed first.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from experiments.claims.study import markdown

import gram
from gram.asking import Dtype, LoadOptions
from gram.data import read_preferences
from gram.decisions import Choice, Request
from gram.decisions.export import decision_files
from gram.decisions.prompts import OwnPrompts
from gram.errors import DataError, NoRowsError
from gram.files import atomic_write
from gram.modeling.loading import LoadedModel, choose_device, load_model
from gram.modeling.precision import TORCH
from gram.modeling.quiet import quiet_libraries
from gram.modeling.renderers import renderer_for
from gram.rendering.template import transcript
from gram.scoring.loading import load_with, precision_with
from gram.statistics import wilson
from gram.types import Pair, Preference

PREF = Path("../shared/data/pref")
MAX_LENGTH = 1024
QUESTION = "Which answer to the request is the better one?"
_DRAWN = 4  # times as many pairs are drawn as are asked: many are too long

Chooser = Callable[[Pair], str]
"""The better answer of a pair, its ``a`` listed first."""


@dataclass(frozen=True)
class Finding:
    """What one way of asking did.

    Attributes:
        changed, right, first: shares of the pairs; of the last two, the mean over both listings.
    """

    name: str
    pairs: int
    changed: float
    right: float
    first: float

    @property
    def cells(self) -> list[str]:
        return [self.name, *(self._with_interval(share) for share in (self.changed, self.right, self.first))]

    def _with_interval(self, share: float) -> str:
        low, high = wilson(share, self.pairs)
        return f"{share:.3f} [{low:.3f}, {high:.3f}]"


def finding(name: str, choose: Chooser, preferences: Sequence[Preference]) -> Finding:
    """Ask each pair as it is, and turned round."""
    changed, right, first = [], [], []
    for preference in preferences:
        pair = preference.pair
        better = pair.a if preference.p_a > 0.5 else pair.b
        chosen = [choose(pair), choose(pair.swapped())]
        changed.append(chosen[0] != chosen[1])
        right.append(np.mean([answer == better for answer in chosen]))
        first.append(np.mean([chosen[0] == pair.a, chosen[1] == pair.b]))
    shares = (float(np.mean(values)) for values in (changed, right, first))
    return Finding(name, len(preferences), *shares)


def real_pairs(data: Path, count: int, fits: Callable[[Pair], bool], seed: int = 0) -> list[Preference]:
    """Pairs with a clear label, drawn at random, the better answer on either side.

    Of a folder the test pairs, as many of each file as possible; of a file any.

    Raises:
        FileNotFoundError: there is no such file, or there are none in the folder.
    """
    sources = [f"{file}::test" for file in sorted(data.glob("*.jsonl.gz"))] if data.is_dir() else [str(data)]
    if not sources or not data.exists():
        raise FileNotFoundError(f"{data}: no *.jsonl.gz; name the folder with --data, or a file")
    most = -(-_DRAWN * count // len(sources))
    draw = Random(seed)
    by_source = []
    for source in sources:
        try:
            rows = read_preferences([source], max_per_source=most, seed=seed).examples
        except NoRowsError:
            continue
        clear = [row for row in rows if row.p_a in (0.0, 1.0) and row.pair.a != row.pair.b]
        draw.shuffle(clear)
        by_source.append(clear)
    in_turn = (rows[place] for place in range(most) for rows in by_source if place < len(rows))
    fitting = islice((row for row in in_turn if fits(row.pair)), count)
    return [row if draw.random() < 0.5 else row.swapped() for row in fitting]


def as_question(pair: Pair) -> tuple[str, Choice]:
    """The request as the state, and a choice whose options are the two answers."""
    return transcript(pair.prompt), Choice(QUESTION, [pair.a, pair.b])


def of_ours(model: Any, orders: int) -> Chooser:
    """``gram.decide``."""

    def choose(pair: Pair) -> str:
        state, question = as_question(pair)
        return gram.decide(model, state, {"better": question}, orders=orders)["better"].choice

    return choose


def of_compare(model: Any) -> Chooser:
    """The judge's own prompt, in as many orders as the model was loaded with."""

    def choose(pair: Pair) -> str:
        return pair.a if model.compare([pair]).p_a[0] > 0.5 else pair.b

    return choose


def of_pipeline(loaded: LoadedModel, settings: Mapping[str, Any]) -> Chooser:
    """transformers' own pipeline on the same weights."""
    from transformers import pipeline
    from transformers.decision import DecisionConfig

    make: Any = pipeline  # its overloads name no task of this kind yet
    pipe = make(
        "decision",
        model=loaded.model,
        tokenizer=copy.deepcopy(loaded.tokenizer),  # the pipeline adds tokens of its own
        decision_config=DecisionConfig(**settings),
    )

    def choose(pair: Pair) -> str:
        state, question = as_question(pair)
        asked = {"type": "choice", "instructions": question.instructions, "criteria": dict(question.criteria)}
        return pipe({"state": state, "questions": {"better": asked}})["better"]["choice"]

    return choose


def study(
    model: str,
    data: Path,
    pairs: int,
    *,
    max_length: int = MAX_LENGTH,
    dtype: Dtype = "auto",
    device: str | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Every way of asking, on the same pairs."""
    options = LoadOptions("judge", max_length=max_length, dtype=dtype, device=device)
    ours = load_with(model, options)
    device = choose_device(device)
    stock = load_model(model, "lm", device=device, dtype=TORCH[precision_with(model, options)])
    renderer = renderer_for(stock, options, source=model)
    files = decision_files(renderer, stock, source=model)
    own = OwnPrompts(renderer)

    def fits(pair: Pair) -> bool:
        state, question = as_question(pair)
        try:
            prompts = own.prompts(state, Request(state, {"better": question}).asked)
        except DataError:  # the answers alone are too long
            return False
        return not any(prompt.cut for prompt in prompts) and ours.tokens_cut([pair]) == [0]

    preferences = real_pairs(data, pairs, fits, seed)
    labels = {str(kind): list(words) for kind, words in files.labels.items()}
    ways: dict[str, Chooser] = {
        "gram.decide, as it is by default": of_ours(ours, 2),
        "gram.decide, one order": of_ours(ours, 1),
        "pipeline, our prompt (gram export decision)": of_pipeline(
            stock, {"labels": labels, "chat_template": files.template}
        ),
        "compare (the judge's prompt), both orders": of_compare(ours),
        "compare, one order": of_compare(load_with(model, replace(options, both_orders=False))),
    }
    if stock.tokenizer.chat_template:  # which the pipeline's own prompt needs
        ways["pipeline, its own prompt"] = of_pipeline(stock, {})
    return [finding(name, choose, preferences) for name, choose in ways.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="a judge, or a language model")
    parser.add_argument("--data", type=Path, default=PREF, help="preference data: *.jsonl.gz, or one file")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--max-length", type=int, default=MAX_LENGTH, help="tokens of a prompt")
    parser.add_argument("--dtype", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file to keep the numbers in")
    options = parser.parse_args(arguments)
    quiet_libraries()
    found = study(
        options.model,
        options.data,
        options.pairs,
        max_length=options.max_length,
        dtype=options.dtype,
        device=options.device,
        seed=options.seed,
    )
    header = ["asked", "verdict changes [95%]", "better answer [95%]", "option listed first [95%]"]
    print(f"{options.model}: {found[0].pairs} pairs\n")
    print(markdown(header, [item.cells for item in found]))
    if options.output:
        with atomic_write(options.output) as file:
            file.write(json.dumps([vars(item) for item in found], indent=2) + "\n")


if __name__ == "__main__":
    main()

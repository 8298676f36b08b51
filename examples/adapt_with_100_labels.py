"""Adapt a reward model to a task of your own with 100 labels: before, after, and the floors beside them.

    python examples/adapt_with_100_labels.py --output runs/adapt-example

To be read from top to bottom; where an editor knows "# %%", each part is a cell. Without --labels and
--test the rows are made up (examples/tutorial/household.py). Leaves labels, test rows, the adapted model
and the picture in the output folder, and prints one JSON line. Needs pip install
'gram-rm[train,local,plots]'; takes two minutes on two cores, and seconds with --quick.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import gram
from gram import plots
from gram.adaptation.checkpoint import adapt_checkpoint
from gram.adaptation.config import AdaptConfig
from gram.data import read_preferences
from gram.evaluation.floors import bag_of_words, length_rule
from gram.modeling.quiet import quiet_libraries
from gram.statistics import Estimate, accuracy, credit, paired_difference
from gram.types import FloatArray, Preference
from tutorial.household import LABELED, NEW, pairs, write_rows

# %% What can be set

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="gram-135m", help="the model to adapt: a folder or a name")
parser.add_argument("--labels", help="labeled pairs of your task (any form that gram reads)")
parser.add_argument("--test", help="more of them, to measure on, about questions that --labels does not have")
parser.add_argument("--output", type=Path, required=True, help="a new folder for all that is made here")
parser.add_argument("--quick", action="store_true", help="few rows and steps: shows that it runs, no more")
options = parser.parse_args()
quiet_libraries()
options.output.mkdir(parents=True)

# %% 1. The rows
# 50 questions have two labels each. 25 others have none, and four test rows each. The better reply answers
# the question. The worse one is good advice, but for another question, or friendly words.

sources = {"labels": options.labels, "test": options.test}
for name, advice, each, seed in (("labels", LABELED, 2, 1), ("test", NEW, 4, 2)):
    if sources[name] is None:
        sources[name] = str(options.output / f"{name}.jsonl")
        used = dict(list(advice.items())[: 6 if options.quick else None])
        write_rows(Path(sources[name]), pairs(used, each, seed))
labels = read_preferences(sources["labels"]).examples
test = read_preferences(sources["test"]).examples


# %% 2. How right a way to choose is
# The share of the rows in which it prefers the better reply, with a 95% interval. Rows about one question are
# alike, so that the interval counts them as one.


def right(rows: Sequence[Preference], p_a: FloatArray) -> FloatArray:
    return credit(p_a, np.array([row.p_a for row in rows]))


def groups(rows: Sequence[Preference]) -> list[str]:
    return [row.group or row.pair.prompt[-1].content for row in rows]


def measured(rows: Sequence[Preference], p_a: FloatArray) -> Estimate:
    return accuracy(right(rows, p_a), groups(rows))


# %% 3. Before
# The model as it is, and two floors: rules that understand nothing. "Bag of words" learns from the same
# labels.

model = gram.load(options.model)
before = model.compare([row.pair for row in test]).p_a
floors = {
    "the longer reply": measured(test, length_rule(test)),
    "bag of words": measured(test, bag_of_words(test, train=labels)),
}

# %% 4. Adapt
# As `gram adapt` does it. Each label is held back once, to choose the steps and to decide whether the
# result is taken. Three folds, one rate and at most 8 steps make it quick; without them it tries more.

adapted = adapt_checkpoint(
    AdaptConfig(
        model=options.model,
        data=[sources["labels"]],
        output=options.output / "adapted",
        folds=3,
        learning_rates=[1e-3],
        max_steps=2 if options.quick else 8,
    )
)

# %% 5. After
# On questions that never had a label. `adapted` also has accuracies on the labels that were held back.

model = gram.load(str(options.output / "adapted"))
after = model.compare([row.pair for row in test]).p_a
gain = paired_difference(right(test, after), right(test, before), groups(test))

# %% 6. The picture

held_back, never = f"the {len(labels)} labels, held back in turn", "questions that never had a label"
bars = {
    "the longer reply": {
        held_back: measured(labels, length_rule(labels)),
        never: floors["the longer reply"],
    },
    "bag of words": {
        held_back: measured(labels, bag_of_words(labels)),
        never: floors["bag of words"],
    },
    "before": {
        held_back: Estimate(**adapted["before"]["accuracy"]),
        never: measured(test, before),
    },
    f"after {len(labels)} labels": {
        held_back: Estimate(**adapted["after"]["accuracy"]),
        never: measured(test, after),
    },
}
figure, ax = plots.canvas(7.6, 4.2)
plots.accuracy_bars(ax, bars)
plots.save(figure, options.output / "picture.png", dpi=110)

# %% 7. The numbers


def shown(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, 2) for name, value in asdict(estimate).items()}


print(
    json.dumps(
        {
            "floors": {name: shown(estimate) for name, estimate in floors.items()},
            "before": shown(measured(test, before)),
            "after": shown(measured(test, after)),
            "gain": {name: round(getattr(gain, name), 2) for name in ("difference", "low", "high")},
            "adopted": adapted["adopted"],
            "steps": adapted["steps"],
            "output": str(options.output),
        }
    )
)

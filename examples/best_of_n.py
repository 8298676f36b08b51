"""Choose the best of n answers by a reward model, and measure what that gains.

    python examples/adapt_with_100_labels.py --output runs/adapt-example
    python examples/best_of_n.py --model gram-135m runs/adapt-example/adapted --output runs/best-of-n-example

To be read from top to bottom; where an editor knows "# %%", each part is a cell. Without --data the
answers are made up (examples/tutorial/household.py), and so is their worth, the gold that the model never
sees. Leaves the answers and the picture in the output folder, and prints one JSON line. Needs pip install
'gram-rm[local,plots]'; takes a minute on two cores, and seconds with --quick.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

import gram
from gram import plots
from gram.modeling.quiet import quiet_libraries
from gram.statistics import mean
from gram.types import FloatArray
from tutorial.household import NEW, contests, write_rows

# %% What can be set

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", nargs="+", default=["gram-135m"], help="reward models: folders or names")
parser.add_argument("--data", type=Path, help="JSON Lines with prompt, responses and scores (their gold)")
parser.add_argument("--output", type=Path, required=True, help="a new folder for all that is made here")
parser.add_argument("--quick", action="store_true", help="few questions: shows that it runs, no more")
options = parser.parse_args()
quiet_libraries()
options.output.mkdir(parents=True)

# %% 1. The answers
# Eight answers to each of 25 questions, none of which had a label in examples/adapt_with_100_labels.py: one
# is right (gold 1), one is half of it (0.5), three answer other questions, and three are only friendly (0).

data = options.data
if data is None:
    data = options.output / "answers.jsonl"
    questions = dict(list(NEW.items())[: 4 if options.quick else None])
    write_rows(data, contests(questions, 4 if options.quick else 8, seed=0))
rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
most = min(len(row["responses"]) for row in rows)

# %% 2. One question
# In a program this is all: the place of the best answer.

models = {Path(name).name: gram.load(name) for name in options.model}
first = rows[0]
chosen = {
    name: first["responses"][gram.best_of_n(model, first["prompt"], first["responses"])]
    for name, model in models.items()
}

# %% 3. Every answer against every other, once
# To measure, n is to be smaller, too. What a model says about two answers is the same whichever others
# there are, so that it is asked once: log-odds that the one beats the other, the mean of both orders.


def compared(model: gram.PreferenceModel, prompt: str, answers: list[str]) -> FloatArray:
    """(n, n) log-odds that the answer of the row beats that of the column."""
    places = list(combinations(range(len(answers)), 2))
    verdicts = model.compare([gram.Pair(prompt, answers[i], answers[j]) for i, j in places])
    table = np.zeros((len(answers), len(answers)))
    for (i, j), log_odds in zip(places, verdicts.log_odds.mean(axis=1), strict=True):
        table[i, j], table[j, i] = log_odds, -log_odds
    return table


# %% 4. Ways to choose among the answers at some places
# Each gives the gold of what it chooses. The last one looks at the gold: no way to choose can do better.

Way = Callable[[int, list[int]], float]


def by_model(model: gram.PreferenceModel) -> Way:
    tables = [compared(model, row["prompt"], row["responses"]) for row in rows]

    def choose(k: int, places: list[int]) -> float:
        wins = tables[k][np.ix_(places, places)].mean(axis=1)
        return rows[k]["scores"][places[int(np.argmax(wins))]]

    return choose


def longest(k: int, places: list[int]) -> float:
    return rows[k]["scores"][max(places, key=lambda place: len(rows[k]["responses"][place]))]


def at_random(k: int, places: list[int]) -> float:
    return float(np.mean([rows[k]["scores"][place] for place in places]))


def best_there_is(k: int, places: list[int]) -> float:
    return max(rows[k]["scores"][place] for place in places)


ways: dict[str, Way] = {name: by_model(model) for name, model in models.items()}
ways |= {"longest": longest, "random": at_random, "best there is": best_there_is}

# %% 5. Gold over n
# For each question the mean over 100 random draws of n answers; then the mean over questions, with a 95%
# interval over questions (a bootstrap): draws are free, questions are what we have few of.

draw = np.random.default_rng(0)
orders = [[draw.permutation(len(row["responses"])) for _ in range(100)] for row in rows]


def gold_of(way: Way, n: int) -> FloatArray:
    """(questions,) gold of what is chosen among n answers."""
    found = [np.mean([way(k, order[:n].tolist()) for order in orders[k]]) for k in range(len(rows))]
    return np.array(found, dtype=np.float64)


sizes = [n for n in (1, 2, 4, 8, 16, 32) if n <= most]
gold = {name: [gold_of(way, n) for n in sizes] for name, way in ways.items()}

# %% 6. The picture

figure, ax = plots.canvas(7.6, 4.2)
plots.best_of_n_curve(ax, sizes, {name: [mean(values) for values in line] for name, line in gold.items()})
plots.save(figure, options.output / "picture.png", dpi=110)

# %% 7. The numbers
# For all answers together. A gain is the difference on the same questions: its interval is narrower than
# what the intervals of the two would make you think.


def shown(values: FloatArray) -> dict[str, float]:
    estimate = mean(values)
    return {name: round(getattr(estimate, name), 2) for name in ("value", "low", "high")}


print(
    json.dumps(
        {
            "prompt": first["prompt"],
            "chosen": chosen,
            "n": sizes[-1],
            "gold": {name: shown(line[-1]) for name, line in gold.items()},
            "gain over random": {name: shown(gold[name][-1] - gold["random"][-1]) for name in models},
            "output": str(options.output),
        }
    )
)

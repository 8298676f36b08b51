"""Choosing one of eight answers: the gold score of what gram-135m, its rivals and the floors choose.

Forty prompts of each of three pools: hard chat graded 1 to 10, maths and code that is right or wrong (their
`test` prompts), and translations graded by experts. Answers: eight drawn from those of the pool that differ;
prompts whose eight have one and the same gold are left out. gram-135m ranks by each schedule; all see the
same verdicts, every pair is asked once.
Command: python -m experiments.foundation.best_of_n, after `make foundation` and the arm bradley_terry_short
(21 minutes of one core for a judge, 3 for a likelihood, and 3 for each rival). Reads ../shared/data
(see experiments/public_files.py). What was said is kept in runs/gram-135m/best_of_n, and is not asked again;
the numbers are written to experiments/results/gram_135m_best_of_n.json. --model and --rival take folders in
place of the two models, --device cuda a GPU, --table only prints.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import numpy as np
from experiments.claims.study import markdown
from experiments.foundation.arms import BASE, MODELS, SAME_LABELS, folder
from experiments.foundation.data import SHARED
from experiments.foundation.results import FOLDER, MODEL, NOT_RUN, command, numbers, shown

import gram
from gram.files import atomic_write
from gram.modeling.quiet import quiet_libraries
from gram.progress import parts_with_progress
from gram.ranking import SCHEDULES, rank_many
from gram.statistics import mean_by_group
from gram.types import Contest, FloatArray, Pair, PreferenceModel, ScalarModel, Verdicts, as_chat

RESULTS = FOLDER / "gram_135m_best_of_n.json"
RIVAL = folder(SAME_LABELS)
WORK = MODELS / "best_of_n"
PROMPTS, ANSWERS = 40, 8
MAX_LENGTH = 768
"""Most tokens of a prompt of the judge, for time; what is longer loses the middle of its texts."""
POOLS = {
    "arena_bench": ("test", "hard chat, graded 1 to 10"),
    "zeroeval": ("test", "maths and code, right or wrong"),
    "wmt_mqm": ("eval", "translations, errors weighed by experts (0: none)"),
}
ASKED = {"gram": MODEL, "zero_shot": "zero-shot likelihood", "bradley_terry": "Bradley-Terry"}
FLOORS = {"random": "at random", "length": "the longest"}
BEST = "the best there is"
Numbers = dict[str, Any]


@dataclass(frozen=True)
class Pool:
    """A prompt with its answers, their gold scores, and what its prompts have in common (a document)."""

    contest: Contest
    gold: FloatArray
    group: str


def pools(name: str) -> list[Pool]:
    """The prompts of a pool, drawn with a seed, as are the answers of each."""
    draw, found = Random(0), []
    with gzip.open(SHARED / "bon" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["split"] == POOLS[name][0]]
    for row in draw.sample(rows, len(rows)):
        scores = dict(zip(row["responses"], row["scores"], strict=True))  # equal answers once
        if len(scores) < ANSWERS:
            continue
        texts = draw.sample(sorted(scores), ANSWERS)
        gold = np.array([scores[text] for text in texts], dtype=np.float64)
        if len(set(gold)) > 1:
            contest = Contest(as_chat(row["prompt"]), tuple(texts), str(row["id"]))
            found.append(Pool(contest, gold, str(row["group"])))
    return found[:PROMPTS]


def log_odds(model: PreferenceModel, contest: Contest) -> FloatArray:
    """(n, n, 2) log-odds that an answer beats another, in both orders; 0 on the diagonal.

    Of a model that scores single answers the differences of the scores, which put answers in the same order.
    """
    texts = contest.responses
    table = np.zeros((len(texts), len(texts), 2))
    if isinstance(model, ScalarModel):
        scores = np.asarray(model.score([contest.prompt] * len(texts), texts))
        return table + (scores[:, None] - scores[None, :])[:, :, None]
    places = [(i, j) for i in range(len(texts)) for j in range(i)]
    said = model.compare([Pair(contest.prompt, texts[i], texts[j]) for i, j in places]).log_odds
    for (i, j), odds in zip(places, said, strict=True):
        table[i, j], table[j, i] = odds, -odds[::-1]
    return table


class Known:
    """A model that has said all it has to say about some contests."""

    def __init__(self, contests: Sequence[Contest], tables: Sequence[FloatArray]) -> None:
        self._said = {
            (contest.prompt, a, b): table[i, j]
            for contest, table in zip(contests, tables, strict=True)
            for i, a in enumerate(contest.responses)
            for j, b in enumerate(contest.responses)
        }

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        odds = np.array([self._said[pair.prompt, pair.a, pair.b] for pair in pairs]).reshape(-1, 2)
        return Verdicts(odds, np.ones_like(odds))


def ask(
    name: str, chooser: str, model: str, load: Callable[[], PreferenceModel], found: Sequence[Pool]
) -> None:
    """Let a model compare all answers of a pool, unless what it said is on file."""
    path = WORK / f"{name}.{chooser}.json"
    if not path.exists() or json.loads(path.read_text(encoding="utf-8"))["model"] != model:
        asked, said = load(), {}
        for (pool,) in parts_with_progress([[pool] for pool in found], title=f"{chooser}: {name}"):
            said[pool.contest.id] = log_odds(asked, pool.contest).round(5).tolist()
        with atomic_write(path) as file:
            file.write(json.dumps({"model": model, "said": said}) + "\n")


def told(name: str, chooser: str, found: Sequence[Pool]) -> list[FloatArray] | None:
    """What is on file, one table for each prompt."""
    path = WORK / f"{name}.{chooser}.json"
    if not path.exists():
        return None
    said = json.loads(path.read_text(encoding="utf-8"))["said"]
    return [np.array(said[pool.contest.id]) for pool in found]


def measured(name: str, found: Sequence[Pool]) -> Numbers:
    """Mean gold of what each way chooses, with an interval over groups, and the leads of gram-135m."""
    gold = np.array([pool.gold for pool in found])  # (prompts, answers)
    groups = np.array([pool.group for pool in found])
    chosen: dict[str, FloatArray] = {
        "random": gold.mean(axis=1),
        "length": _at(gold, [[len(text) for text in pool.contest.responses] for pool in found]),
        BEST: gold.max(axis=1),
    }
    comparisons = {}
    for chooser in ASKED:
        tables = told(name, chooser, found)
        if tables is None:
            continue
        chosen[chooser] = _at(gold, [table.mean(axis=(1, 2)) for table in tables])
        if chooser == "gram":
            known = Known([pool.contest for pool in found], tables)
            for schedule in SCHEDULES:
                rankings = rank_many(known, [pool.contest for pool in found], schedule)
                first = [ranking.order[0] for ranking in rankings]
                chosen[f"gram, {schedule}"] = gold[np.arange(len(gold)), first]
                comparisons[schedule] = float(np.mean([ranking.comparisons for ranking in rankings]))
    return {
        "prompts": len(found),
        "groups": len(set(groups)),
        "gold": {who: numbers(mean_by_group(values, groups)) for who, values in chosen.items()},
        "leads": {
            who: numbers(mean_by_group(chosen["gram"] - values, groups))
            for who, values in chosen.items()
            if "gram" in chosen and who in (*FLOORS, *ASKED) and who != "gram"
        },
        "comparisons": comparisons,
    }


def _at(gold: FloatArray, scores: Sequence[Any]) -> FloatArray:
    """Gold of the answer with the highest score, the first one of several."""
    return gold[np.arange(len(gold)), np.argmax(np.array(scores), axis=1)]


def table(found: Mapping[str, Numbers]) -> str:
    """Gold of the chosen answer, a column for each pool."""
    names = FLOORS | ASKED | {f"gram, {name}": f"{MODEL}, {name}" for name in SCHEDULES} | {BEST: BEST}
    rows = [
        [title, *(shown(pool["gold"][who]) if who in pool["gold"] else "" for pool in found.values())]
        for who, title in names.items()
        if any(who in pool["gold"] for pool in found.values())
    ]
    head = [f"{POOLS[name][1]} ({pool['prompts']} prompts)" for name, pool in found.items()]
    return markdown([f"gold of the chosen of {ANSWERS}", *head], rows)


def lead_table(found: Mapping[str, Numbers]) -> str:
    """Gold of what gram-135m chooses less that of what others choose, on the same prompts."""
    rows = [
        [f"less {title}", *(shown(pool["leads"][who], "+") for pool in found.values())]
        for who, title in (FLOORS | ASKED).items()
        if all(who in pool["leads"] for pool in found.values())
    ]
    return markdown([f"gold of {MODEL}'s choice", *(POOLS[name][1] for name in found)], rows)


def section() -> str:
    """What the page says, from the numbers on file."""
    if not RESULTS.exists():
        return NOT_RUN
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    return f"{table(found)}\n\n{lead_table(found)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command(__doc__, RIVAL)
    options = parser.parse_args(arguments)
    quiet_libraries()
    if not options.table:
        how: dict[str, Any] = {"max_length": MAX_LENGTH, "device": options.device}
        base = {"kind": "likelihood", "length_power": 1.0}
        models: dict[str, tuple[str, dict[str, Any]]] = {
            "gram": (options.model, how),
            "zero_shot": (BASE, how | base),
            "bradley_terry": (options.rival, how),
        }
        found = {}
        for name in POOLS:
            prompts = pools(name)
            for chooser, (model, asking) in models.items():
                ask(name, chooser, model, partial(gram.load, model, **asking), prompts)
            found[name] = measured(name, prompts)
        with atomic_write(RESULTS) as file:
            file.write(json.dumps(found, indent=1) + "\n")
    print(section())


if __name__ == "__main__":
    main()

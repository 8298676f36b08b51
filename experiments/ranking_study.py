"""Choosing among n answers: what each schedule finds and costs, and what choosing harder does to the gold.

Part ``schedules``: the winner's gold reward, how often it is the best there is, how far below that of a round
robin, and the cost, for n = 2 to 16 candidates and every schedule. Part ``best_of_n``: gold and proxy of the
best of n over the KL divergence of choosing, log n - (n-1)/n, for the judge, the likelihood, Bradley-Terry
heads and an ensemble (mean of the standardised scores of judge, likelihood and the Bradley-Terry head on the
stage-1 body): the paper's picture of over-optimisation (arXiv 2506.14175).

Two sources of contests. ``world``: 16 answers of mixed quality (each value right with 0.7 or 0.1) to test
prompts, half of them of families that never had labels; models of experiments/world_models.py; intervals
over seeds, one world and one set of models each. ``real``: a best-of-n pool with gold scores (rows of the
test split with enough candidates, not all of the same gold), a judge, its stage-1 model, and a scalar head on
the same body taught by the judge's labels; intervals over prompts.

Every comparison is asked once per source and kept, so that all schedules see the same verdicts.
Commands, after ``experiments/harmless`` and for the scalar head
    gram train --config experiments/harmless/3-finetune.yaml --objective scalar --label-smoothing 0
        --output runs/harmless/bradley_terry
    python experiments/ranking_study.py world [--seeds 21 22 23 24] [--prompts 100]
    python experiments/ranking_study.py real --pool ../shared/data/bon/zeroeval.jsonl.gz --sizes 2 4 8 12
    python experiments/ranking_study.py real --pool ../shared/data/bon/arena_bench.jsonl.gz --sizes 2 4 8 15
Tables and pictures: experiments/ranking_report.py. Where the pools are from: experiments/public_files.py.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gram
from gram.demo.world import World
from gram.modeling.quiet import quiet_libraries
from gram.progress import chunks, parts_with_progress
from gram.ranking import SCHEDULES, rank_many
from gram.types import Contest, FloatArray, Pair, Verdicts, as_chat

try:
    from experiments.ranking_report import summary, table
    from experiments.world_models import FOLDER, world_models
except ModuleNotFoundError:  # run as a script, its own folder comes first
    from ranking_report import summary, table
    from world_models import FOLDER, world_models

SIZES = (2, 4, 8, 16)
CHOOSERS = ("judge", "likelihood", "bradley_terry", "bradley_terry_pretrained")
ENSEMBLE = ("judge", "likelihood", "bradley_terry_pretrained")
HARMLESS = Path("runs/harmless")
DRAWS = 30  # subsets of n candidates per prompt


@dataclass(frozen=True)
class Pool:
    """A contest and its candidates' gold."""

    contest: Contest
    gold: FloatArray


class Memory:
    """A judge that is asked each pair once, either way round."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.asked = 0
        self._known: dict[tuple[Any, str, str], FloatArray] = {}

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        keys = [(pair.prompt, min(pair.a, pair.b), max(pair.a, pair.b)) for pair in pairs]
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if new:
            verdicts = self.model.compare([Pair(*key) for key in new])
            self._known.update(zip(new, verdicts.log_odds, strict=True))
            self.asked += len(new)
        odds = [
            self._known[key] if pair.a == key[1] else -self._known[key][::-1]
            for key, pair in zip(keys, pairs, strict=True)
        ]
        table = np.array(odds).reshape(-1, 2)
        return Verdicts(table, np.ones_like(table))


def schedules(
    pools: Sequence[Pool], judge: Memory, tokens_per_comparison: float, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    """Per schedule and n: gold of the winner, share of prompts whose winner is a best one, cost."""
    rows = []
    for n in sizes:
        cut = [Pool(Contest(p.contest.prompt, p.contest.responses[:n]), p.gold[:n]) for p in pools]
        best = np.array([pool.gold.max() for pool in cut])
        everything = np.zeros(len(cut))
        for name in sorted(SCHEDULES, key=lambda name: name != "round_robin"):
            rankings = rank_many(judge, [pool.contest for pool in cut], name)
            won = np.array([pool.gold[r.order[0]] for pool, r in zip(cut, rankings, strict=True)])
            if name == "round_robin":
                everything = won
            comparisons = float(np.mean([r.comparisons for r in rankings]))
            row = {
                "n": n,
                "schedule": name,
                "prompts": len(cut),
                "gold": mean_with_interval(won),
                "less_than_round_robin": mean_with_interval(everything - won),
                "winner_is_best": float(np.mean(won >= best - 1e-9)),
                "comparisons": comparisons,
                "tokens": round(comparisons * tokens_per_comparison),
                "ties": float(np.mean([r.ties / max(1, r.comparisons) for r in rankings])),
            }
            cycles = [r.cyclic for r in rankings if not math.isnan(r.cyclic)]
            row["cyclic_triples"] = float(np.mean(cycles)) if cycles and name == "round_robin" else None
            rows.append(row)
        mean = np.array([pool.gold.mean() for pool in cut])
        for name, gold in (("the best there is", best), ("any of them (mean)", mean)):
            rows.append({"n": n, "schedule": name, "prompts": len(cut), "gold": mean_with_interval(gold)})
    return rows


def best_of_n(pools: Sequence[Pool], scores: dict[str, list[FloatArray]]) -> list[dict[str, Any]]:
    """Per chooser and n: gold and (standardised) proxy of the chosen, over random subsets of n candidates."""
    rng = np.random.default_rng(0)
    largest = len(pools[0].gold)
    sizes = [n for n in (1, 2, 3, 4, 6, 8, 12) if n < largest] + [largest]
    subsets = {
        n: [[rng.permutation(len(pool.gold))[:n] for _ in range(DRAWS)] for pool in pools] for n in sizes
    }
    rows = []
    for name, chooser in scores.items():
        flat = np.concatenate(chooser)
        standard = [(score - flat.mean()) / flat.std() for score in chooser]
        for n in sizes:
            gold, proxy = [], []
            for pool, score, draws in zip(pools, standard, subsets[n], strict=True):
                picks = [draw[int(np.argmax(score[draw]))] for draw in draws]
                gold.append(float(np.mean(pool.gold[picks])))
                proxy.append(float(np.mean(score[picks])))
            kl = math.log(n) - (n - 1) / n
            rows.append(
                {
                    "chooser": name,
                    "n": n,
                    "kl": kl,
                    "gold": mean_with_interval(np.array(gold)),
                    "proxy": float(np.mean(proxy)),
                }
            )
    return rows


def judge_scores(pools: Sequence[Pool], judge: Memory) -> list[FloatArray]:
    """Mean log-odds of each candidate against all others of its contest."""
    scores = []
    for pool in pools:
        texts = pool.contest.responses
        pairs = [(i, j) for i in range(len(texts)) for j in range(i) if texts[i] != texts[j]]
        verdicts = judge.compare([Pair(pool.contest.prompt, texts[i], texts[j]) for i, j in pairs])
        total = np.zeros(len(texts))
        for (i, j), odds in zip(pairs, verdicts.log_odds.mean(axis=1), strict=True):
            total[i] += odds
            total[j] -= odds
        scores.append(total / max(1, len(texts) - 1))
    return scores


def scalar_scores(pools: Sequence[Pool], model: Any) -> list[FloatArray]:
    return [
        model.score([pool.contest.prompt] * len(pool.gold), list(pool.contest.responses)) for pool in pools
    ]


def ensemble(scores: Sequence[list[FloatArray]]) -> list[FloatArray]:
    """Mean of scores, each standardised over all candidates of all prompts."""
    parts = []
    for chooser in scores:
        flat = np.concatenate(chooser)
        parts.append([(score - flat.mean()) / flat.std() for score in chooser])
    return [np.mean(rows, axis=0) for rows in zip(*parts, strict=True)]


def world_pools(seed: int, prompts: int, candidates: int) -> list[Pool]:
    """Contests of test prompts, half of them of families that never had a label."""
    world = World(seed, strong=0.7, weak=0.1)
    halves = (world.seen_families, world.unseen_families)
    contests = [c for half in halves for c in world.contests(prompts // 2, half, candidates=candidates)]
    return [
        Pool(contest, np.array([world.gold(contest.prompt, text) for text in contest.responses]))
        for contest in contests
    ]


def real_pools(path: Path, prompts: int, candidates: int) -> list[Pool]:
    """The first prompts of the test split with that many candidates or more, cut to that many.

    Those whose candidates all have the same gold are left out: there is nothing to choose.
    """
    pools = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            gold = np.array(row["scores"][:candidates], dtype=np.float64)
            if row["split"] == "test" and len(gold) == candidates and len(set(gold)) > 1:
                texts = tuple(row["responses"][:candidates])
                pools.append(Pool(Contest(as_chat(row["prompt"]), texts, str(row["id"])), gold))
    return pools[:prompts]


def study(pools: Sequence[Pool], models: Mapping[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """Both parts, for ``models["judge"]`` and the other models, which score one answer at a time."""
    began = time.monotonic()
    local = models["judge"]
    judge = Memory(local)
    by_judge: list[FloatArray] = []
    for chunk in parts_with_progress(chunks(pools, 4), title="judging"):
        by_judge += judge_scores(chunk, judge)
    scores = {name: by_judge if name == "judge" else scalar_scores(pools, models[name]) for name in models}
    scores["ensemble"] = ensemble([scores[name] for name in ENSEMBLE])
    scores["length"] = [np.array([float(len(text)) for text in p.contest.responses]) for p in pools]
    tokens = local.usage.tokens / judge.asked
    return {
        "prompts": len(pools),
        "tokens_per_comparison": round(tokens, 1),
        "truncated_share": round(local.usage.truncated / (2 * judge.asked), 4),
        "schedules": schedules(pools, judge, tokens, sizes),
        "best_of_n": best_of_n(pools, scores),
        "seconds": round(time.monotonic() - began, 1),
    }


def mean_with_interval(values: FloatArray) -> tuple[float, float, float]:
    """Mean of one value per prompt and the ends of its 95% interval."""
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    mean = float(values.mean())
    return round(mean, 6), round(mean - half, 6), round(mean + half, 6)


def one_row_a_line(text: str) -> str:
    """Indented JSON with its innermost objects on a line each."""
    return re.sub(r"\{[^{}]*\}", lambda found: " ".join(found[0].split()), text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", choices=("world", "real"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23, 24])
    parser.add_argument("--prompts", type=int, default=100, help="the most")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="candidates to choose from")
    parser.add_argument("--models", type=Path, default=FOLDER, help="world: where the checkpoints are")
    parser.add_argument("--judge", type=Path, default=HARMLESS / "judge")
    parser.add_argument("--likelihood", type=Path, default=HARMLESS / "pretrained")
    parser.add_argument("--bradley-terry", type=Path, default=HARMLESS / "bradley_terry")
    parser.add_argument("--zero-shot", type=Path, help="real: one more likelihood, before any label")
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--max-length", type=int, help="real: most tokens of a prompt")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    quiet_libraries()
    largest = max(options.sizes)
    if options.source == "world":
        name, runs = "world", []
        for seed in options.seeds:
            paths = world_models(seed, options.models)
            models = {chooser: gram.load(paths[chooser], device="cpu") for chooser in CHOOSERS}
            pools = world_pools(seed, options.prompts, largest)
            runs.append({"seed": seed} | study(pools, models, options.sizes))
        parts = {part: summary(runs, part) for part in ("schedules", "best_of_n")}
        result: dict[str, Any] = {"title": f"the world, {len(runs)} seeds", **parts, "runs": runs}
    else:
        name = options.pool.name.split(".")[0]
        how: dict[str, Any] = {"device": "cpu", "max_length": options.max_length}
        models = {
            "judge": gram.load(options.judge, **how),
            "likelihood": gram.load(options.likelihood, kind="likelihood", length_power=1.0, **how),
            "bradley_terry_pretrained": gram.load(options.bradley_terry, **how),
        }
        if options.zero_shot:
            how |= {"kind": "likelihood", "length_power": 1.0}
            models["zero_shot"] = gram.load(options.zero_shot, **how)
        numbers = study(real_pools(options.pool, options.prompts, largest), models, options.sizes)
        result = {"title": f"{name}, {numbers['prompts']} prompts"} | numbers
    output = options.output or Path(f"experiments/results/ranking_{name}.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(one_row_a_line(json.dumps(result, indent=1)) + "\n")
    print(table(result["schedules"], largest))


if __name__ == "__main__":
    main()

"""Reinforcement learning of the base against gram-135m: TRL's GRPO, and the gold that no reward sees.

The base (LoRA) is trained for 40 steps on 32 short prompts of tasks that gram-135m never had a label of.
Reward: of a likelihood its score of an answer, of a judge the log-odds of beating the base's own greedy
answer. Gold: the task's own check (experiments/foundation/checked.py), which is measured on the same answers
and has no weight. Every pass over the prompts is 8 steps, in the same order; what counts is the last pass
less the first.
Command: python -m experiments.foundation.grpo [--seeds 0 1 2], needs pip install 'gram-rm[rl]' (half an hour
of one core and 4 GB for each seed). Reads ../shared/data (see experiments/public_files.py). Adds a
line for each seed to experiments/results/gram_135m_grpo.jsonl, and does not run a seed again; a seed that is
stopped begins again. --model takes a folder in place of gram-135m, --device cuda a GPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.claims.study import markdown
from experiments.foundation.arms import BASE, LENGTH
from experiments.foundation.checked import PROMPTS, Checked, checked
from experiments.foundation.results import (
    FOLDER,
    NOT_RUN,
    Result,
    add,
    command,
    numbers,
    read,
    refuse_others,
    shown,
)

import gram
from gram.modeling.quiet import quiet_libraries
from gram.modeling.shipped import model_folder
from gram.modeling.writer import Writer
from gram.rl import LikelihoodReward, ReferenceReward, Reward
from gram.rl.trl import TrlReward, text_of
from gram.statistics import over_seeds
from gram.types import ScalarModel

RESULTS = FOLDER / "gram_135m_grpo.jsonl"
STEPS, SEEDS = 40, (0, 1, 2)
GROUP, TOGETHER = 8, 4
"""Answers to a prompt, prompts of a step."""
PASS = PROMPTS // TOGETHER
LONGEST = 16
"""Most tokens of an answer; a right one is a word or two."""
LEARNING_RATE, BETA, RANK = 2e-4, 0.02, 16
"""None of them was tuned. BETA: weight of the KL divergence from the base."""


def reward_of(model: str, base: str, device: str | None) -> Reward:
    """The reward that a judge or a likelihood gives."""
    loaded: Any = gram.load(model, max_length=LENGTH, device=device)
    if isinstance(loaded, ScalarModel):
        return LikelihoodReward(loaded)
    return ReferenceReward(loaded, answer=Writer.from_pretrained(base, max_new_tokens=LONGEST))


def gold(prompts: Sequence[Checked]) -> Any:
    """The checks, as a reward function of TRL: the column ``place`` says which prompt it is."""

    def gold(completions: Sequence[Any], place: Sequence[int], **_: Any) -> list[float]:
        return [prompts[k].gold(text_of(text)) for k, text in zip(place, completions, strict=True)]

    return gold


def train(
    seed: int,
    reward: Reward,
    prompts: Sequence[Checked],
    base: str,
    *,
    steps: int = STEPS,
    device: str | None = None,
) -> Result:
    """One run; reward, gold, KL and tokens of an answer for each step."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    began, work = time.monotonic(), time.process_time()
    torch.manual_seed(seed)  # of the adapters
    policy: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    rows = [
        {"prompt": [{"role": "user", "content": one.prompt}], "place": k} for k, one in enumerate(prompts)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        trainer = GRPOTrainer(
            model=policy,
            reward_funcs=[TrlReward(reward), gold(prompts)],
            processing_class=AutoTokenizer.from_pretrained(base),
            train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            args=GRPOConfig(
                output_dir=scratch,
                max_steps=steps,
                per_device_train_batch_size=GROUP,
                gradient_accumulation_steps=TOGETHER,  # together they would need 10 GB
                num_generations=GROUP,
                max_completion_length=LONGEST,
                learning_rate=LEARNING_RATE,
                beta=BETA,
                reward_weights=[1.0, 0.0],
                lr_scheduler_type="constant",
                shuffle_dataset=False,
                use_cpu=device != "cuda",
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                logging_steps=1,
                seed=seed,
            ),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "reward" in entry]
    names = {
        "reward": "reward",  # weighed: that of gram alone
        "gold": "rewards/gold/mean",
        "kl": "kl",
        "tokens": "completions/mean_length",
    }
    curves = {short: [round(entry[name], 5) for entry in log] for short, name in names.items()}
    spent = {"seconds": round(time.monotonic() - began, 1), "cpu": round(time.process_time() - work, 1)}
    return {"seed": seed, "steps": steps, **curves, **spent}


def passes(values: Sequence[float]) -> list[float]:
    """Means over every whole pass over the prompts.

    Example:
        >>> passes([1.0] * 8 + [3.0] * 8 + [9.0])
        [1.0, 3.0]
    """
    return [mean(values[k : k + PASS]) for k in range(0, len(values) - PASS + 1, PASS)]


def table(found: Sequence[Result]) -> str:
    """First and last pass, and the change, over seeds."""
    rows = []
    for key, title, digits in (("gold", "gold", 3), ("reward", "reward", 2)):
        curves = [passes(run[key]) for run in found]
        columns = [
            [curve[0] for curve in curves],
            [curve[-1] for curve in curves],
            [curve[-1] - curve[0] for curve in curves],
        ]
        cells = [shown(numbers(over_seeds(column)), "", digits) for column in columns]
        rows.append([title, *cells])
    seeds = "one seed" if len(found) == 1 else f"{len(found)} seeds"
    return markdown([seeds, "first pass", "last pass", "change"], rows)


def picture(found: Sequence[Result], path: Path) -> bool:
    """Gold (left) and reward (right): each seed's steps, faint, and the mean of each pass over seeds."""
    from gram import plots

    figure, left = plots.canvas(11, 4.4)
    left.remove()
    panels: Any = figure.subplots(1, 2)
    for ax, key in zip(panels, ("gold", "reward"), strict=True):
        curves = [passes(run[key]) for run in found]
        ends = [PASS * (k + 1) for k in range(len(curves[0]))]
        points = [over_seeds(column) for column in zip(*curves, strict=True)]
        plots.curve(
            ax, ends, {"mean of a pass": points}, xlabel="GRPO steps", ylabel=key, chance=None, log=False
        )
        for run in found:
            ax.plot(
                range(1, len(run[key]) + 1), run[key], color=plots.FAINT, alpha=0.35, linewidth=0.9, zorder=1
            )
    plots.save(figure, path, dpi=110)
    return True


def section() -> str:
    """What the page says, from the results on file."""
    found = read(RESULTS)
    return table(found) if found else NOT_RUN


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options = parser.parse_args(arguments)
    quiet_libraries()
    todo = [seed for seed in options.seeds if seed not in {run["seed"] for run in read(RESULTS)}]
    if todo and not options.table:
        refuse_others(RESULTS, options.model)
        base = str(model_folder(BASE))
        reward, prompts = reward_of(options.model, base, options.device), checked()
        for seed in todo:
            run = train(seed, reward, prompts, base, device=options.device)
            add(RESULTS, {"model": options.model} | run)
    print(section())


if __name__ == "__main__":
    main()

"""GRPO with a judge behind ``gram serve`` as the reward: TRL trains a policy, another process scores it.

    python examples/adapt_with_100_labels.py --output runs/adapt-example
    python examples/trl_grpo_served.py --model runs/adapt-example/adapted --output runs/grpo-example

To be read from top to bottom; where an editor knows "# %%", each part is a cell. Without --policy and
--prompts a tiny policy is made first, which gives good and bad advice alike
(examples/tutorial/household.py): there is a gold then, which the judge never sees. With your own:

    gram serve --model runs/judge
    python examples/trl_grpo_served.py --url http://127.0.0.1:8000 --policy runs/policy \\
        --prompts prompts.jsonl --output runs/grpo

Rows of the prompts have ``prompt``, a string or messages, and ``reference``, an answer that is to be
beaten: the reward is the log-odds of that. Nothing of the judge is loaded here, so that all memory is the
policy's; several runs may ask one server. Prints one JSON line. Needs pip install
'gram-rm[rl,serve,local,plots]'; takes a few minutes on two cores, and seconds with --quick.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

import gram
from gram import plots
from gram.modeling.quiet import quiet_libraries
from gram.modeling.writer import Writer
from gram.rl import ReferenceReward
from gram.rl.trl import TrlReward, text_of
from gram.statistics import mean_by_group
from gram.training.config import TrainConfig
from gram.training.pipeline import train
from gram.types import FloatArray
from tutorial.household import NEW, policy_rows, prompt_rows, write_rows

# %% What can be set

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="gram-135m", help="the judge that is served: a folder or a name")
parser.add_argument("--url", help="of a server that runs already, in place of --model; GRAM_TOKEN: its token")
parser.add_argument("--policy", help="the model to train: a folder or a Hub name; needs --prompts")
parser.add_argument("--prompts", help="JSON Lines with prompt and reference; needs --policy")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--output", type=Path, required=True, help="a new folder for all that is made here")
parser.add_argument("--quick", action="store_true", help="3 steps of few answers: shows that it runs")
options = parser.parse_args()
if (options.policy is None) != (options.prompts is None):
    parser.error("--policy and --prompts go together")
quiet_libraries()
options.output.mkdir(parents=True)

# %% 1. Prompts, and references to beat
# Twelve questions, none of which had a label in examples/adapt_with_100_labels.py. The reference is advice
# for another question, so that an answer that fits beats it.

made_up = options.prompts is None
advice = dict(list(NEW.items())[: 4 if options.quick else 12])
prompts = options.prompts or str(options.output / "prompts.jsonl")
if made_up:
    write_rows(Path(prompts), prompt_rows(advice, seed=0))

# %% 2. A policy that has something to learn
# A small model, trained from nothing to give four kinds of advice on each question, of which one is right.
# It gives them all equally often: what is left to learn is which.

policy = options.policy or str(options.output / "start")
if made_up:
    write_rows(options.output / "advice.jsonl", policy_rows(advice, seed=0))
    train(
        TrainConfig(
            model="preset:tiny",
            stage="pretrain",
            data=[str(options.output / "advice.jsonl")],
            output=Path(policy),
            max_steps=5 if options.quick else 150,
            learning_rate=3e-3,
        )
    )

# %% 3. The judge, served by another process


@contextmanager
def serving() -> Iterator[str]:
    """The address of ``gram serve``, which is stopped at the end."""
    command = [sys.executable, "-m", "gram", "serve", "--model", options.model, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines: list[str] = []
            while not lines or " at http://" not in lines[-1]:
                lines.append(process.stderr.readline())
                if not lines[-1]:
                    raise SystemExit("gram serve has ended:\n" + "".join(lines))
            yield lines[-1].split(" at ")[-1].strip()
        finally:
            process.terminate()


@contextmanager
def running() -> Iterator[str]:
    """The address of a server that is there already, and stays."""
    yield options.url


# %% 4. The gold
# Is it the right advice, word for word? The judge does not know, and GRPO is given it with a weight of 0:
# it is only logged, for the same answers that are rewarded.


def is_right(question: str, answer: str) -> float:
    return float(answer.strip() == advice[question])


def gold(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
    return [
        is_right(prompt[0]["content"], text_of(answer))
        for prompt, answer in zip(prompts, completions, strict=True)
    ]


# %% 5. GRPO

gpu = torch.cuda.is_available()
size: dict[str, Any] = {
    "per_device_train_batch_size": 8 if options.quick else 32,
    "num_generations": 4 if options.quick else 8,
    "max_completion_length": 6 if options.quick else 32 if made_up else 256,
    "max_steps": 3 if options.quick else options.steps,
}
with running() if options.url else serving() as url:
    reward = ReferenceReward(gram.RemoteModel(url, token=os.environ.get("GRAM_TOKEN")))
    rewards: list[Any] = [TrlReward(reward), *([gold] if made_up else [])]
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=rewards,
        train_dataset=load_dataset("json", data_files=prompts, split="train"),
        args=GRPOConfig(
            output_dir=str(options.output / "policy"),
            reward_weights=[1.0, 0.0] if made_up else [1.0],
            learning_rate=3e-4 if made_up else 1e-6,
            beta=0.02 if made_up else 0.0,
            use_cpu=not gpu,
            bf16=gpu,
            gradient_checkpointing=gpu,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **size,
        ),
    )
    trainer.train()
    trainer.save_model()
log = [entry for entry in trainer.state.log_history if "reward" in entry]

# %% 6. Fresh answers of the two policies
# Sixteen answers to each question by the policy before and by that after. The interval is over questions.


def rightness(folder: str) -> FloatArray:
    write = Writer.from_pretrained(folder, max_new_tokens=32, temperature=1.0)
    answers = write([question for question in advice for _ in range(16)])
    asked = [question for question in advice for _ in range(16)]
    return np.array([is_right(*pair) for pair in zip(asked, answers, strict=True)], dtype=np.float64)


def over_questions(values: FloatArray) -> dict[str, float]:
    found = mean_by_group(values, np.repeat(np.arange(len(advice)), 16))
    return {name: round(getattr(found, name), 2) for name in ("value", "low", "high")}


checked: dict[str, Any] = {}
if made_up:
    before, after = rightness(policy), rightness(str(options.output / "policy"))
    checked = {
        "gold_before": over_questions(before),
        "gold_after": over_questions(after),
        "change": over_questions(after - before),
    }

# %% 7. The picture
# What GRPO was rewarded with, and what it was worth: the answers of each step (points), and means of five
# steps. Diamonds are the fresh answers before and after, with their intervals.

curves = {"reward: log-odds of beating the reference": [entry["reward"] for entry in log]}
if made_up:
    curves["gold: share of right advice"] = [entry["rewards/gold/mean"] for entry in log]
figure, ax = plots.canvas(8.4, 3.6)
ax.remove()
for k, (title, values) in enumerate(curves.items()):
    ax: Any = figure.add_subplot(1, len(curves), k + 1)
    plots.style(ax, title)
    ax.plot(range(1, len(values) + 1), values, "o", color=plots.PALETTE[k], alpha=0.35, markersize=4)
    width = min(5, len(values))
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    ax.plot(range(width, len(values) + 1), smooth, color=plots.PALETTE[k], linewidth=2)
    ax.set_xlabel("GRPO steps")
if made_up:  # the last panel is that of the gold
    for step, name in ((0, "gold_before"), (len(log), "gold_after")):
        found = checked[name]
        ax.plot([step, step], [found["low"], found["high"]], color=plots.INK, linewidth=1.5)
        ax.plot(step, found["value"], "D", color=plots.INK, markersize=6)
    ax.set_ylim(0, 1)
plots.save(figure, options.output / "picture.png", dpi=110)

# %% 8. The numbers

print(
    json.dumps(
        {
            "steps": len(log),
            "rewards": [round(entry["reward"], 3) for entry in log],
            **checked,
            "failures": reward.failures.count,
            "output": str(options.output),
        }
    )
)

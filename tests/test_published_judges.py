"""GRAM's published judges are asked as their authors ask them: P(a is better) to 1e-6.

The right value is the arithmetic of ``evaluation/gram_eval.py`` in the authors' repository, computed here
with transformers alone: the judge prompt as one user turn of the chat template, thoughts off, both
orders as a batch padded on the left, a softmax over the two labels behind the last token, and the mean of the
two orders.

The models are small random copies of the two architectures, with chat templates of their kinds. The judge
prompt is one of ours that ends in a space, as theirs does, and the authors' own where
``GRAM_PUBLISHED_TEMPLATE`` names the file that docs/checkpoints.md makes of their script.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import gram
from conftest import sharpened
from gram.scoring.judge import JudgeModel
from small_models import config_of
from small_tokenizers import byte_level
from test_examples import load_file
from test_rendering_follows import QWEN3

ROOT = Path(__file__).resolve().parents[1]
AUTHORS = os.environ.get("GRAM_PUBLISHED_TEMPLATE")
# Writes a system turn with today's date, and trims every content: the Llama 3.2 kind.
LLAMA = (
    "{{- bos_token }}"
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + date_string + '\n\n<|eot_id|>' }}"
    "{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
OURS = {
    "name": "ours, in that form",
    "text": 'Who serves the user better? Say "A" or "B".\n\n[Question]\n{prompt}\n\n[First]\n{a}\n'
    "[End]\n\n[Second]\n{b}\n[End]\n\n#Better: ",
    "labels": ["A", "B"],
}
PAIRS = [
    ("What is the capital of France?", "Paris.", "Lyon, of course."),
    ("2 + 2?", "4", "the answer is five . " * 8),
    ("Braces {a} and {b}?\n\nTwo lines.", "naïve café\n- one\n- two", "  spaces  around  "),
    ("Write the mark", "<|im_end|> and <|eot_id|>", "no mark"),
]


def folder_of(family: str, folder: Path) -> Path:
    """A random Qwen 3 or Llama; the tokenizer of Llama puts its bos in front of plain text."""
    from transformers import AutoModelForCausalLM

    if family == "qwen3":
        words = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
        tokenizer: Any = byte_level(words, eos="<|im_end|>", template=QWEN3)
    else:
        words = ["<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        tokenizer = byte_level(words, bos="<|begin|>", eos="<|eot_id|>", template=LLAMA)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config_of(family, len(tokenizer)))
    sharpened(model, 8.0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_transformers(folder: Path, template: dict[str, Any], *, bos_again: bool = False) -> list[float]:
    """P(a is better) of ``PAIRS``.

    Args:
        bos_again: put special tokens in front of the rendered text, as the authors' script does.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    labels = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in template["labels"]]
    columns = torch.tensor([labels, labels[::-1]])  # those of the first answer come first
    before, middle, between, after = split(template["text"])
    found = []
    for prompt, a, b in PAIRS:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": before + prompt + middle + first + between + second + after}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
                date_string="26 Jul 2024",
            )
            for first, second in ((a, b), (b, a))
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=bos_again)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            logits = model(**inputs).logits[:, -1].gather(1, columns)  # (2, 2)
        found.append(logits.softmax(dim=1).mean(dim=0)[0].item())
    return found


def split(text: str) -> list[str]:
    """The four texts around the three slots, which stand in the order prompt, a, b."""
    parts = []
    for slot in ("{prompt}", "{a}", "{b}"):
        part, _, text = text.partition(slot)
        parts.append(part)
    return [*parts, text]


def templates() -> list[Any]:
    mark = pytest.mark.skipif(AUTHORS is None, reason="GRAM_PUBLISHED_TEMPLATE names no file")
    return [
        pytest.param(OURS, id="ours"),
        pytest.param(json.loads(Path(AUTHORS).read_text()) if AUTHORS else OURS, id="authors", marks=mark),
    ]


def asked(folder: Path, template: dict[str, Any], path: Path, engine: Any = "tree") -> JudgeModel:
    path.write_text(json.dumps(template))
    model = gram.load(folder, template=path, neutralise=False, device="cpu", engine=engine)
    assert isinstance(model, JudgeModel)
    return model


def pairs() -> list[gram.Pair]:
    return [gram.Pair(prompt, a=a, b=b) for prompt, a, b in PAIRS]


@pytest.mark.parametrize("engine", ["tree", "plain"])
@pytest.mark.parametrize("template", templates())
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_probabilities_are_those_of_the_published_evaluation(
    family: str, template: dict[str, Any], engine: str, tmp_path: Path
) -> None:
    folder = folder_of(family, tmp_path / "model")
    wanted = by_transformers(folder, template)
    model = asked(folder, template, tmp_path / "template.json", engine)
    assert model.compare(pairs()).p_a == pytest.approx(wanted, abs=1e-6)
    assert max(wanted) - min(wanted) > 0.005


def test_the_published_script_puts_a_second_bos_in_front_of_llamas_prompts(tmp_path: Path) -> None:
    """It tokenizes a text that has one already with the tokenizer's default. LLaMA-Factory, which trained the
    model, writes one, and so do we: the two differ in probability, on Llama only."""
    folder = folder_of("llama", tmp_path / "model")
    model = asked(folder, OURS, tmp_path / "template.json")
    ours = model.compare(pairs()).p_a
    assert ours == pytest.approx(by_transformers(folder, OURS), abs=1e-6)
    assert max(abs(ours - by_transformers(folder, OURS, bos_again=True))) > 1e-4
    other = folder_of("qwen3", tmp_path / "qwen3")
    assert by_transformers(other, OURS, bos_again=True) == by_transformers(other, OURS)


def test_the_template_is_read_out_of_the_authors_script(tmp_path: Path) -> None:
    """A stand-in for it: a text with the slots of ``str.format``, among other texts."""
    script = tmp_path / "gram_eval.py"
    text = (
        OURS["text"]
        .replace("{prompt}", "{input}")
        .replace("{a}", "{response_a}")
        .replace("{b}", "{response_b}")
    )
    script.write_text(
        f'"""{{input}} alone is another text."""\nimport os\nsystem_prompt = {text!r}\nx = "A"\n'
    )
    assert load_file("published_template").template_in(script) == OURS | {"name": "gram_eval"}
    script.write_text("x = 1\n")
    with pytest.raises(SystemExit, match="no text with the slots"):
        load_file("published_template").template_in(script)

"""A reward model that TRL trained gets from us the scores that transformers gives it, whatever its format.

Nine cells: three styles of chat templates, and padding by a token of its own, by the end token, or none (TRL
then takes the end token). A cell is a few steps of ``RewardTrainer``, its folder as TRL saves it, and then,
all to 1e-5: transformers alone, transformers in batches padded on the left and on the right, ``gram.load`` in
a batch, alone and with either engine, and ``gram score`` on single answers, on candidates and on pairs. The
same for adapters that TRL trained, as its own model in memory scores.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import gram
from conftest import run
from gram.scoring.scalar import ScalarHeadModel
from small_models import causal, classifier
from test_foreign_scalar import FORMATS, tokenizer_for

QUESTION = {"role": "user", "content": "name a color , please"}
PROMPTS: list[Any] = [
    "why ?",
    [QUESTION],
    [{"role": "system", "content": "be kind"}, QUESTION],
    [QUESTION, {"role": "assistant", "content": "blue ."}, {"role": "user", "content": "another\n\none ?"}],
    [{"role": "user", "content": [{"type": "text", "text": "naïve "}, {"type": "text", "text": "café ?"}]}],
    "x" * 60,
]
ANSWERS = ["because it is so . " * 9, "red", " a space in front", "green\n", "日本語 🙂", "good good bad"]


CELLS = [(style, padding) for style in FORMATS for padding in ("own", "eos", "none")]


def trained(where: Path, model: Any, words: Any, *, lora: bool = False) -> Any:
    """TRL's trainer after a few steps on "good words are better than bad ones", saved in ``where/model``."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = [
        {
            "prompt": [QUESTION],
            "chosen": [{"role": "assistant", "content": "good " * (k + 3)}],
            "rejected": [{"role": "assistant", "content": "bad " * (k + 1)}],
        }
        for k in range(4)
    ]
    arguments = trl.RewardConfig(
        output_dir=str(where / "run"), max_steps=2, per_device_train_batch_size=4, learning_rate=1e-3,
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    of_lora = peft.LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"], r=4) if lora else None
    trainer = trl.RewardTrainer(
        model, arguments, train_dataset=Dataset.from_list(rows), processing_class=words, peft_config=of_lora
    )
    trainer.train()
    trainer.save_model(str(where / "model"))
    return trainer


@pytest.fixture(scope="module", params=CELLS, ids=" ".join)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TRL leaves of a whole model."""
    style, padding = request.param
    words = tokenizer_for(style, padding)
    model: Any = copy.deepcopy(classifier("llama", len(words)))
    model.config.pad_token_id = words.pad_token_id
    where = tmp_path_factory.mktemp("trl")
    trained(where, model, words)
    return where / "model"


def by_transformers(folder: Path) -> list[float]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return by_model(model, AutoTokenizer.from_pretrained(folder))


def by_model(model: Any, words: Any) -> list[float]:
    """Alone, and in batches that transformers pads: which must agree, or there would be no right value."""
    rows = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        turns = [turn | {"content": plain(turn["content"])} for turn in turns]
        turns = [*turns, {"role": "assistant", "content": answer}]
        rows.append(words.apply_chat_template(turns, tokenize=True, return_dict=False))
    with torch.no_grad():
        alone = [model(torch.tensor([ids])).logits[0, 0].item() for ids in rows]
        for side in ("left", "right"):
            batch = words.pad({"input_ids": rows}, padding_side=side, return_tensors="pt")
            assert model(**batch).logits[:, 0].numpy() == pytest.approx(alone, abs=1e-5), side
    assert np.ptp(alone) > 0.01
    return alone


def plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def test_a_reward_model_of_trl(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = by_transformers(folder)
    for engine in ("tree", "plain"):
        model = gram.load(folder, kind="scalar", device="cpu", engine=engine)  # type: ignore[arg-type]
        assert isinstance(model, ScalarHeadModel)
        assert model.score(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=1e-5)
        alone = [model.score([x], [y])[0] for x, y in zip(PROMPTS, ANSWERS, strict=True)]
        assert alone == pytest.approx(wanted, abs=1e-5)
    check_command(folder, wanted, tmp_path, capsys)


@pytest.mark.parametrize("padding", ["own", "eos", "none"])
@pytest.mark.parametrize("style", ["llama 3", "chatml"])
def test_a_reward_adapter_of_trl(
    style: str, padding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained on a base that names no padding, as Llama 3: TRL gives the classifier the padding of the
    tokenizer, the end token where it has none, and so trains the score of Llama 3's format at the token in
    front of the end. Of that only the tokenizer beside the adapter tells. The right value is TRL's own model
    in memory. ``gram merge`` writes the padding, so that transformers alone reads the folder right.
    """
    words = tokenizer_for(style, padding)
    base: Any = copy.deepcopy(causal("llama", len(words)))
    base.config.pad_token_id = None
    base.save_pretrained(tmp_path / "base")
    words.save_pretrained(tmp_path / "base")
    trainer = trained(tmp_path, str(tmp_path / "base"), words, lora=True)
    wanted = by_model(trainer.model.eval(), words)
    code, _, error = run(capsys, "merge", "--model", tmp_path / "model", "--output", tmp_path / "merged")
    assert code == 0, error
    assert by_transformers(tmp_path / "merged") == pytest.approx(wanted, abs=1e-5)
    for name in ("model", "merged"):
        model = gram.load(tmp_path / name, kind="scalar", device="cpu")
        assert isinstance(model, ScalarHeadModel)
        assert model.score(PROMPTS, ANSWERS) == pytest.approx(wanted, abs=1e-5)


def check_command(
    folder: Path, wanted: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``gram score``: an answer a row; all answers to a prompt; and pairs, whose log-odds are differences."""
    rows: list[dict[str, Any]] = [
        {"prompt": prompt, "response": answer} for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    ]
    rows += [{"prompt": PROMPTS[k], "responses": [ANSWERS[k], "red", ANSWERS[k]]} for k in (2, 3)]
    rows += [{"prompt": PROMPTS[2], "a": ANSWERS[2], "b": "red"}]
    (source := tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "scores.jsonl"
    command = ["score", "--model", folder, "--kind", "scalar", "--device", "cpu"]
    code, _, error = run(capsys, *command, "--input", source, "--output", output)
    assert code == 0, error
    scores = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["score"] for row in scores[: len(wanted)]] == pytest.approx(wanted, abs=1e-5)
    first, second, pair = scores[len(wanted) :]
    for row, k in ((first, 2), (second, 3)):
        assert [row["scores"][0], row["scores"][2]] == pytest.approx([wanted[k]] * 2, abs=1e-5)
    assert pair["log_odds"] == pytest.approx([first["scores"][0] - first["scores"][1]] * 2, abs=2e-5)

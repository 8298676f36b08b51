"""Training from beginning to end: files of rows in, a folder that loads and scores out.

The model is ``preset:tiny``, three layers, trained for a handful of steps: enough to see that the parts fit
together and that nothing is written over, not that anything is learned.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import gram
from conftest import MAX_LENGTH, make_preferences
from gram import Message, Preference
from gram.cli.main import main
from gram.errors import CheckpointError, ConfigError, DataError, TemplateError, TrainingError
from gram.modeling.loading import load_model
from gram.modeling.manifest import Manifest, read_manifest
from gram.modeling.trainable import freeze
from gram.objectives.preference import Judge
from gram.rendering import load_template
from gram.scoring.judge import JudgeModel
from gram.scoring.scalar import LikelihoodModel, ScalarHeadModel
from gram.training import pipeline
from gram.training.config import TrainConfig
from gram.training.fit import FitResult, fit
from gram.training.folder import SETTINGS, claim_output
from gram.training.pipeline import train

Rows = list[dict[str, Any]]


def rows_of(preferences: list[Preference]) -> Rows:
    return [
        {
            "id": item.id,
            "prompt": [{"role": turn.role, "content": turn.content} for turn in item.pair.prompt],
            "a": item.pair.a,
            "b": item.pair.b,
            "p_a": item.p_a,
            "margin": item.margin,
        }
        for item in preferences
    ]


def write_rows(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files by what they hold: 24 labeled pairs, 8 more, the same without labels, and plain text."""
    folder = tmp_path_factory.mktemp("data")
    rows = rows_of(make_preferences(32))
    unlabeled = [{"prompt": row["prompt"], "responses": [row["a"], row["b"]]} for row in rows]
    mixed = [*unlabeled[:8], *({"prompt": row["prompt"], "response": row["a"]} for row in rows[8:16])]
    return {
        "pairs": write_rows(folder / "pairs.jsonl", rows[:24]),
        "held_out": write_rows(folder / "held_out.jsonl", rows[24:]),
        "unlabeled": write_rows(folder / "unlabeled.jsonl", unlabeled[:24]),
        "mixed": write_rows(folder / "mixed.jsonl", mixed),
        "answers": write_rows(folder / "answers.jsonl", mixed[8:]),
        "text": write_rows(folder / "text.jsonl", [{"text": row["a"] + row["b"]} for row in rows]),
    }


@pytest.fixture
def make_config(data: dict[str, str], tmp_path: Path) -> Callable[..., TrainConfig]:
    """Two quick steps on the labeled pairs, on ``preset:tiny``, in a folder of the test's own."""

    def make(**options: Any) -> TrainConfig:
        quick: dict[str, Any] = {
            "model": "preset:tiny",
            "data": [data["pairs"]],
            "output": tmp_path / "out",
            "template": "compact",
            "vocab_size": 400,
            "max_steps": 2,
            "batch_size": 4,
            "log_steps": 1,
            "learning_rate": 1e-3,
            "device": "cpu",
        }
        return TrainConfig(**quick | options)

    return make


MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def stage_1(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model pre-trained on the unlabeled pairs."""
    output = tmp_path_factory.mktemp("stage_1") / "model"
    train(
        TrainConfig(
            model="preset:tiny",
            data=[data["unlabeled"]],
            output=output,
            stage="pretrain",
            template="compact",
            vocab_size=400,
            max_steps=2,
            max_length=MAX_LENGTH,
            batch_size=8,
            device="cpu",
        )
    )
    return output


def manifest_of(folder: Path) -> Manifest:
    found = read_manifest(folder)
    assert found is not None
    return found


def saved_weights(folder: Path) -> dict[str, Tensor]:
    return load_model(folder, "score" if manifest_of(folder).kind == "scalar" else "lm").model.state_dict()


def weight_bytes(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Both stages, every objective ---


@pytest.mark.parametrize(
    ("sources", "context"),
    [
        (["unlabeled"], "judge"),
        (["answers"], "chat"),
        (["text"], "chat"),
        (["mixed", "text"], "judge"),
    ],
)
def test_stage_1_gives_a_likelihood_model(
    sources: list[str], context: str, make_config: MakeConfig, data: dict[str, str], tmp_path: Path
) -> None:
    """Asked where it learned to write answers: in the judge prompt if any pair was among the data."""
    config = make_config(stage="pretrain", data=[data[name] for name in sources])
    result = train(config)
    model = gram.load(tmp_path / "out")
    assert isinstance(model, LikelihoodModel)
    assert manifest_of(tmp_path / "out").context == context
    assert (result["stage"], result["objective"], result["steps"]) == ("pretrain", "language", 2)
    scores = model.score([gram.Pair("who ?", "a", "b").prompt], ["the old tower ."])
    assert scores.shape == (1,) and scores[0] < 0


@pytest.mark.parametrize(
    ("source", "context"),
    [("answers", "chat"), ("text", "judge"), ("mixed", "judge"), ("unlabeled", "judge")],
)
def test_stage_1_on_stage_1_is_asked_where_its_own_answers_stand(
    source: str, context: str, stage_1: Path, make_config: MakeConfig, data: dict[str, str], tmp_path: Path
) -> None:
    """After pairs, in the judge prompt: single answers stand in the chat format, texts nowhere. The loss per
    token before the first step is minus the log-likelihood of the answers, as they are asked, over their
    tokens: sum / mean of each answer is its number of tokens.
    """
    config = make_config(
        model=str(stage_1), stage="pretrain", data=[data[source]], template=None, vocab_size=None
    )
    result = train(replace(config, max_steps=1, batch_size=8, learning_rate=1e-12))
    assert manifest_of(tmp_path / "out").context == context
    if source == "answers":
        rows = [json.loads(line) for line in Path(data[source]).read_text(encoding="utf-8").splitlines()]
        prompts = [tuple(Message(**turn) for turn in row["prompt"]) for row in rows]
        answers = [row["response"] for row in rows]
        sums = scores_of(tmp_path / "out", prompts, answers)
        means = gram.load(tmp_path / "out", length_power=1.0).score(prompts, answers)  # type: ignore[union-attr]
        assert result["train_loss"] == pytest.approx(-sums.sum() / (sums / means).sum(), rel=1e-4)


def test_the_judge_prompt_is_no_context_of_data_without_pairs(
    make_config: MakeConfig, data: dict[str, str], tmp_path: Path
) -> None:
    """It would stand in gram.json alone. Where any pair is among the data, or in stage 2, it is followed; a
    chat model that learned from pairs may still be asked in its own format.
    """
    config = make_config(stage="pretrain", context="judge", max_steps=1)
    for source in ("answers", "text"):
        with pytest.raises(ConfigError, match="only pairs stand in the judge prompt, and the data have none"):
            train(replace(config, data=[data[source]]))
    train(replace(config, data=[data["mixed"]]))
    train(replace(config, data=[data["unlabeled"]], context="chat", output=tmp_path / "chat"))
    assert [manifest_of(tmp_path / name).context for name in ("out", "chat")] == ["judge", "chat"]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, JudgeModel),
        ({"objective": "scalar", "margin": True, "centring": 0.01}, ScalarHeadModel),
        ({"objective": "likelihood", "length_power": 1.0, "beta": 2.0}, LikelihoodModel),
        ({"objective": "likelihood", "likelihood_form": "cross_entropy"}, LikelihoodModel),
        ({"lora": True}, JudgeModel),
        ({"freeze": True, "unfreeze_layers": 1}, JudgeModel),
        ({"objective": "scalar", "lora": True}, ScalarHeadModel),
        ({"objective": "scalar", "freeze": True}, ScalarHeadModel),
        ({"objective": "scalar", "text_regulariser": 0.1}, ScalarHeadModel),
        ({"objective": "scalar", "text_regulariser": 0.1, "text_form": "dpo", "lora": True}, ScalarHeadModel),
        ({"objective": "likelihood", "lora": True, "dtype": "bf16"}, LikelihoodModel),
        ({"gradient_checkpointing": True, "token_budget": 100}, JudgeModel),
    ],
    ids=str,
)
def test_stage_2_gives_a_model_that_loads_and_compares(
    options: dict[str, Any],
    kind: type,
    stage_1: Path,
    make_config: MakeConfig,
    preferences: list[Preference],
    tmp_path: Path,
) -> None:
    """From the folder of stage 1, whose template, context and length it keeps without being told."""
    result = train(make_config(model=str(stage_1), template=None, vocab_size=None, **options))
    before, after = manifest_of(stage_1), manifest_of(tmp_path / "out")
    assert after.template_hash == before.template_hash
    assert (after.context, after.max_length) == (before.context, before.max_length) == ("judge", MAX_LENGTH)
    assert result["samples"] == 24 and result["train_loss"] > 0
    model = gram.load(tmp_path / "out")
    assert isinstance(model, kind)
    pairs = [item.pair for item in preferences[:4]]
    verdicts = model.compare(pairs)
    assert torch.isfinite(torch.from_numpy(verdicts.log_odds)).all()
    assert verdicts.p_a.std() > 0
    assert not list((tmp_path / "out").glob("adapter*")), "adapters are merged: an ordinary model folder"
    assert after.training["trained"] == (
        "lora" if options.get("lora") else "head" if options.get("freeze") else "all"
    )


@pytest.mark.parametrize("objective", ["preference", "scalar", "likelihood"])
def test_stage_2_from_scratch(objective: str, make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(objective=objective))
    assert len(gram.load(tmp_path / "out").compare([gram.Pair("who ?", a="me .", b="not me .")])) == 1


def test_evaluation_in_the_result_is_that_of_the_saved_model(
    make_config: MakeConfig, data: dict[str, str], tmp_path: Path
) -> None:
    """Accuracy by the loaded model: p_a above one half where the label says a; ties count one half."""
    result = train(make_config(eval_data=[data["held_out"]], max_steps=4))
    held_out = make_preferences(32)[24:]
    verdicts = gram.load(tmp_path / "out").compare([item.pair for item in held_out])
    right = [
        0.5 if item.p_a == 0.5 else float((p > 0.5) == (item.p_a > 0.5))
        for item, p in zip(held_out, verdicts.p_a, strict=True)
    ]
    assert result["evaluation"]["eval_accuracy"] == pytest.approx(sum(right) / len(right))
    assert manifest_of(tmp_path / "out").evaluation == result["evaluation"]


def test_evaluation_rows_that_were_trained_on_are_counted(
    make_config: MakeConfig, data: dict[str, str]
) -> None:
    """All 24 training rows are leaks when evaluated on; none of the 8 held-out rows is."""
    result = train(make_config(eval_data=[data["pairs"], data["held_out"]], max_steps=1))
    assert result["leaked"] == 24


def test_the_manifest_tells_the_whole_story(
    stage_1: Path, make_config: MakeConfig, data: dict[str, str], tmp_path: Path
) -> None:
    config = make_config(model=str(stage_1), eval_data=[data["held_out"]], label_smoothing=0.2, seed=7)
    result = train(replace(config, template=None, vocab_size=None))
    found = manifest_of(tmp_path / "out")
    tokenizer = load_model(tmp_path / "out", "lm").tokenizer
    assert found.kind == "judge"
    assert found.template["name"] == "gram-compact" and len(found.template_hash) == 16
    assert tokenizer.convert_ids_to_tokens(found.label_ids) == ["A", "B"]
    assert found.objective == {"name": "preference", "label_smoothing": 0.2}
    assert found.training == {
        "stage": "finetune",
        "from": str(stage_1),
        "from_hub": False,
        "trained": "all",
        "samples": 24,
        "truncated": 0,
        "collapsed": 0,
        "steps": 2,
        "seed": 7,
        "dtype": "fp32",
        "train_loss": result["train_loss"],
    }
    assert [(source["use"], source["records"]) for source in found.data] == [("train", 24), ("evaluation", 8)]
    assert len({source["sha256"] for source in found.data}) == 2
    assert [source["hub"] for source in found.data] == [False, False]
    assert {"gram", "torch", "transformers", "python"} <= set(found.versions)
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_reference_of_the_same_model_starts_at_log_2(
    stage_1: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """DPO before its first step: d = 0, so the loss is log 2 = 0.693147, for any label and eps."""
    config = make_config(
        model=str(stage_1), template=None, vocab_size=None, objective="likelihood", reference=str(stage_1)
    )
    assert train(replace(config, max_steps=1))["train_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert manifest_of(tmp_path / "out").objective["reference"] == str(stage_1)


def scores_of(folder: Path, prompts: Any, answers: list[str]) -> Any:
    model = gram.load(folder)
    assert isinstance(model, LikelihoodModel)
    return model.score(prompts, answers)


def test_a_model_trained_against_a_reference_is_scored_against_it(
    stage_1: Path,
    make_config: MakeConfig,
    preferences: list[Preference],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """DPO's implicit reward, log p - log r, without being told: through ``gram.load`` and ``gram score``;
    and the log-odds of a pair are beta times its difference. A reference that has moved is asked for.
    """
    old = tmp_path / "reference"
    shutil.copytree(stage_1, old)
    start = make_config(model=str(stage_1), template=None, vocab_size=None, learning_rate=1e-2)
    train(replace(start, objective="likelihood", beta=0.5, reference=str(old)))
    items = [item.pair for item in preferences[:5]]
    prompts, answers = [pair.prompt for pair in items], [pair.a for pair in items]
    theirs = scores_of(old, prompts, answers)
    bare = shutil.copytree(tmp_path / "out", tmp_path / "bare")
    replace(manifest_of(bare), objective={"name": "likelihood"}).write(bare)
    own = scores_of(bare, prompts, answers)
    model = gram.load(tmp_path / "out")
    assert isinstance(model, LikelihoodModel)
    scores = model.score(prompts, answers)
    assert scores == pytest.approx(own - theirs, abs=1e-4) and abs(own - theirs).max() > 0.01
    difference = scores - model.score(prompts, [pair.b for pair in items])
    assert model.compare(items).log_odds[:, 0] == pytest.approx(0.5 * difference, abs=1e-4)
    rows = [{"prompt": p[0].content, "response": a} for p, a in zip(prompts[:3], answers[:3], strict=True)]
    source, output = write_rows(tmp_path / "answers.jsonl", rows), tmp_path / "scores.jsonl"
    arguments = ["score", "--model", str(tmp_path / "out"), "--input", source, "--output", str(output)]
    assert main(arguments) == 0
    written = [json.loads(line)["score"] for line in output.read_text(encoding="utf-8").splitlines()]
    assert written == pytest.approx(scores[:3].tolist(), abs=1e-4)
    old.rename(tmp_path / "moved")
    output.unlink()
    assert main(arguments) != 0
    assert "say with --reference" in capsys.readouterr().err
    assert main([*arguments, "--reference", str(tmp_path / "moved")]) == 0
    again = [json.loads(line)["score"] for line in output.read_text(encoding="utf-8").splitlines()]
    assert again == pytest.approx(written, abs=1e-6)


@pytest.fixture
def against(
    stage_1: Path, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A model trained against a reference that was named from the working directory; and that reference."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(stage_1, "reference")
    start = make_config(model=str(stage_1), template=None, vocab_size=None, learning_rate=1e-3)
    train(replace(start, objective="likelihood", reference="reference"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "out", tmp_path / "reference"


def exchange_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({name: w * 1.1 for name, w in load_file(path).items()}, path, metadata={"format": "pt"})


def test_a_reference_is_the_same_model_from_anywhere(
    against: tuple[Path, Path], preferences: list[Preference]
) -> None:
    """Other weights under its name are an error; chosen, a warning. Earlier versions kept no digests."""
    folder, reference = against
    pairs = [item.pair for item in preferences[:3]]
    wanted = gram.load(folder).compare(pairs).log_odds
    manifest = manifest_of(folder)
    assert manifest.objective["reference"] == str(reference.resolve())
    exchange_weights(reference)
    with pytest.raises(CheckpointError, match=r"not those of the training \(model.safetensors differ.*--ref"):
        gram.load(folder)
    with pytest.warns(UserWarning, match="scores may be others"):
        changed = gram.load(folder, reference=str(reference)).compare(pairs).log_odds
    assert abs(changed - wanted).max() > 1e-3
    old = {name: value for name, value in manifest.objective.items() if name != "reference_files"}
    replace(manifest, objective=old).write(folder)
    assert gram.load(folder).compare(pairs).log_odds == pytest.approx(changed, abs=1e-6)


@pytest.mark.parametrize("adopted", [True, False])
def test_adapting_keeps_the_reference_wherever_it_is_now(
    adopted: bool,
    against: tuple[Path, Path],
    preferences: list[Preference],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Moved, it has to be named; what comes out names its new place, whatever was decided."""
    from gram.adaptation import adapt as module

    decide = module.decide

    def decided(verdicts: Any) -> Any:
        decision = decide(verdicts)
        return replace(decision, adopted=adopted, choice=replace(decision.choice, candidate=1))

    monkeypatch.setattr(module, "decide", decided)
    folder, reference = against
    pairs = [item.pair for item in preferences[:3]]
    before = gram.load(folder).compare(pairs).log_odds
    moved = reference.rename(tmp_path / "moved")
    rows = write_rows(tmp_path / "few.jsonl", [row for row in rows_of(preferences[:20]) if row["p_a"] != 0.5])
    quick = ["--data", rows, "--max-steps", "2", "--folds", "2", "--learning-rates", "0.001"]
    command = ["adapt", "--model", str(folder), "--output", str(tmp_path / "adapted"), *quick]
    assert main(command) == 1
    assert "say with --reference" in capsys.readouterr().err
    assert main([*command, "--reference", "../moved"]) == 0
    assert manifest_of(tmp_path / "adapted").objective["reference"] == str(moved.resolve())
    (tmp_path / "elsewhere" / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere" / "deeper")
    after = gram.load(tmp_path / "adapted").compare(pairs).log_odds
    assert (abs(after - before).max() < 1e-6) is not adopted
    command[2] = str(moved)
    assert main([*command, "--reference", str(moved), "--overwrite"]) == 1
    assert "was trained against none" in capsys.readouterr().err


def test_a_reference_that_counts_tokens_otherwise_is_refused(
    stage_1: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(objective="likelihood", reference=str(stage_1), vocab_size=300)
    with pytest.raises(ConfigError, match="its vocabulary differs"):
        train(config)


def test_a_run_is_reproducible(make_config: MakeConfig, tmp_path: Path) -> None:
    """Two runs, one set of bytes; another seed gives another model."""
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(make_config(output=tmp_path / name, seed=seed))
    one, two, three = (weight_bytes(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three


# --- What is cut, left out or rejected ---


def test_long_pairs_are_cut_and_counted(make_config: MakeConfig) -> None:
    result = train(make_config(max_length=64))
    assert 0 < result["truncated"] < result["samples"] == 24


COLLAPSING = {"prompt": "which ?", "p_a": 1.0} | {
    side: " the old tower is green" * 20 + word + " and the river is quiet" * 20
    for side, word in (("a", " bread"), ("b", " music"))
}


def test_pairs_that_truncation_makes_equal(make_config: MakeConfig, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [*rows_of(make_preferences(8)), COLLAPSING])
    with pytest.raises(DataError, match="1 of 9 pairs have equal answers after truncation"):
        train(make_config(data=[source], max_length=64))
    result = train(make_config(data=[source], max_length=64, on_error="skip", output=tmp_path / "other"))
    assert (result["collapsed"], result["samples"]) == (1, 8)


def test_a_limit_that_cannot_hold_the_question(make_config: MakeConfig) -> None:
    with pytest.raises(TemplateError, match="max_length 8 is too small"):
        train(make_config(max_length=8))
    with pytest.raises(ConfigError, match="max_length 5000: the model reads at most 1024"):
        train(make_config(max_length=5000))


def test_bad_rows_go_to_the_rejects_file(make_config: MakeConfig, tmp_path: Path) -> None:
    """Of the training data, of the evaluation data, and of what only the tokenizer reads."""
    bad: Rows = [{"prompt": "who ?", "a": "same", "b": "same", "p_a": 1.0}]
    good = rows_of(make_preferences(6))
    sources = {
        name: write_rows(tmp_path / f"{name}.jsonl", [*bad * times, *good])
        for times, name in enumerate(("data", "eval_data", "tokenizer_data"), start=1)
    }
    config = make_config(
        data=[sources["data"]], eval_data=[sources["eval_data"]], tokenizer_data=[sources["tokenizer_data"]]
    )
    with pytest.raises(DataError, match=r"data\.jsonl:1: field 'b': the two answers are equal"):
        train(config)
    result = train(replace(config, on_error="skip"))
    assert (result["rejected"], result["examples"]) == (1, 6)
    counts = {
        name: len((tmp_path / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
        for name in ("rejects", "eval_rejects", "tokenizer_rejects")
    }
    assert counts == {"rejects": 1, "eval_rejects": 2, "tokenizer_rejects": 3}


def test_the_rejects_never_replace_what_is_read_later(make_config: MakeConfig, tmp_path: Path) -> None:
    """The rejects of an unfinished run, mended, are data of the next; those of the data come first."""
    first = make_config(on_error="skip")
    claim_output(first)
    mended = write_rows(tmp_path / "out" / "rejects.jsonl", rows_of(make_preferences(2)))
    before = Path(mended).read_bytes()
    with pytest.raises(ConfigError, match=r"rejects\.jsonl: is an input"):
        train(replace(first, eval_data=[mended]))
    assert Path(mended).read_bytes() == before


def test_the_tokenizer_learns_from_further_data(make_config: MakeConfig, tmp_path: Path) -> None:
    """A word of stage 2 that stage 1 never shows is one token only if the tokenizer saw it."""
    source = write_rows(tmp_path / "more.jsonl", [{"text": "zebrafish zebrafish zebrafish"}] * 50)
    for name, more in (("without", []), ("with", [source])):
        train(make_config(output=tmp_path / name, tokenizer_data=more))
    lengths = {
        name: len(load_model(tmp_path / name, "lm").tokenizer(" zebrafish")["input_ids"])  # type: ignore[arg-type]
        for name in ("without", "with")
    }
    assert lengths["with"] == 1 < lengths["without"]


# --- The output folder ---


@pytest.mark.parametrize("version", ["this", "an earlier"])
def test_a_run_that_was_killed_while_it_tidied_up_is_finished(
    version: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is there, and some checkpoints: the same command removes them and says what came out."""
    folder, real = tmp_path / "out", shutil.rmtree

    def killed(path: Path, **how: Any) -> None:
        if path.name == "checkpoints":
            raise KeyboardInterrupt
        real(path, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        train(make_config())
    assert (folder / "gram.json").exists() and (folder / "checkpoints").exists()
    model = weight_bytes(folder)
    if version == "an earlier":
        (folder / ".gram.result.json").unlink()
    with pytest.raises(ConfigError, match="holds a finished model"):
        train(make_config(seed=1))
    result = train(make_config())
    assert (result["output"], result["steps"]) == (str(folder), 2) and result["samples"] == 24
    assert not (folder / "checkpoints").exists() and not list(folder.glob(".*"))
    assert weight_bytes(folder) == model
    with pytest.raises(ConfigError, match="holds a finished model"):
        train(make_config())


def test_a_finished_model_is_not_written_over(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config())
    before = files_of(tmp_path / "out")
    with pytest.raises(ConfigError, match="holds a finished model; use --overwrite"):
        train(make_config(seed=1))
    assert files_of(tmp_path / "out") == before
    train(make_config(seed=1, overwrite=True))
    after = files_of(tmp_path / "out")
    assert after.keys() == before.keys()
    assert after["model.safetensors"] != before["model.safetensors"]


@pytest.mark.parametrize("typo", [{"data": ["typo.jsonl"]}, {"model": "no/such"}], ids=str)
def test_a_model_to_be_replaced_stays_until_everything_is_read(
    typo: dict[str, Any], make_config: MakeConfig, tmp_path: Path
) -> None:
    train(make_config())
    before = files_of(tmp_path / "out")
    with pytest.raises((DataError, CheckpointError)):
        train(make_config(overwrite=True, **typo))
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "train.json", "model.safetensors"])
def test_a_folder_of_somebody_else_is_left_untouched(
    name: str, overwrite: bool, make_config: MakeConfig, tmp_path: Path
) -> None:
    """``overwrite`` replaces models of ours, not a folder of data or a thesis."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not empty, and no run of gram began it"):
        train(make_config(overwrite=overwrite))
    assert files_of(tmp_path / "out") == {name: b"mine"}


def test_an_empty_folder_is_fine_and_a_file_is_not(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    train(make_config())
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for output in (tmp_path / "file", Path()):
        with pytest.raises(ConfigError, match=r"must name a folder|cannot be a folder"):
            train(make_config(output=output, overwrite=True))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_what_a_run_reads_is_not_overwritten_by_it(make_config: MakeConfig, tmp_path: Path) -> None:
    """Stage 2 into the folder of stage 1, or into the folder that holds its data."""
    train(make_config())
    inside = write_rows(tmp_path / "out" / "rows.jsonl", rows_of(make_preferences(8)))
    before = files_of(tmp_path / "out")
    for options in ({"model": str(tmp_path / "out")}, {"data": [inside + "::train"]}):
        with pytest.raises(ConfigError, match="which this run reads; name another"):
            train(make_config(overwrite=True, **options))
    assert files_of(tmp_path / "out") == before


def untied(folder: Path, stage_1: Path) -> str:
    """The model of stage 1 with an output embedding of its own."""
    shutil.copytree(stage_1, folder)
    loaded = load_model(folder, "lm")
    freeze(loaded.model)
    loaded.model.save_pretrained(folder)
    assert "lm_head.weight" in load_file(folder / "model.safetensors")
    return str(folder)


@pytest.mark.parametrize("options", [{}, {"lora": True}, {"freeze": True, "unfreeze_layers": 1}], ids=str)
def test_the_language_head_of_a_text_regulariser_is_not_saved(
    options: dict[str, Any], stage_1: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """From a model whose heads are not tied; the score head starts as it does without a regulariser."""
    model = untied(tmp_path / "untied", stage_1)
    config = make_config(
        model=model, objective="scalar", text_regulariser=0.2, template=None, vocab_size=None, **options
    )
    result = train(config)
    assert result["engine"] == "tree"
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert "score.weight" in saved and not any("head" in name for name in saved)
    assert manifest_of(tmp_path / "out").objective == {
        "name": "scalar",
        "margin": False,
        "centring": 0.0,
        "text_regulariser": 0.2,
        "text_form": "sft",
    }
    plain = make_config(
        model=model, objective="scalar", template=None, vocab_size=None, output=tmp_path / "plain", **options
    )
    first, other = (run["train_loss"] for run in (train(plain), result))
    assert first != other
    with pytest.raises(CheckpointError, match="a scalar model has no language-model head"):
        train(replace(config, model=str(tmp_path / "out"), output=tmp_path / "again"))


def test_a_run_that_failed_before_it_began_does_not_block_the_folder(make_config: MakeConfig) -> None:
    """A misspelt file name, corrected: no checkpoint was written, so there is nothing to protect."""
    with pytest.raises(DataError, match="no such file"):
        train(make_config(data=["misspelt.jsonl"]))
    train(make_config())


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"model": "preset:huge"}, ConfigError, "no preset 'huge'"),
        ({"model": "./nowhere"}, CheckpointError, "no such folder"),
        ({"data": ["nowhere.jsonl"]}, DataError, "nowhere.jsonl"),
        ({"eval_data": ["nowhere.jsonl"]}, DataError, "nowhere.jsonl"),
        ({"split": "test", "data": ["rows.jsonl::dev"]}, DataError, "rows.jsonl"),
        ({"template": "nowhere.json"}, TemplateError, "no template 'nowhere.json'"),
        ({"freeze": True, "unfreeze_layers": 4}, ConfigError, "cannot unfreeze 4 layers: the model has 3"),
        (
            {"objective": "likelihood", "beta": -1.0},
            ConfigError,
            "beta must be a finite number at least 1e-06",
        ),
        (
            {"objective": "scalar", "centring": -1.0},
            ConfigError,
            "centring must be a finite number at least 0",
        ),
        ({"device": "abacus"}, ConfigError, "device must be cpu or cuda"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(
    options: dict[str, Any], error: type[Exception], reason: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        train(make_config(**options))
    assert not (tmp_path / "out" / "gram.json").exists()


# --- Runs that break off ---


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Arms a kill in the given training step (one forward pass each); 0 disarms it."""
    plain = Judge.loss_sum

    def arm(step: int) -> None:
        calls = 0

        def mortal(self: Judge, model: Any, batch: Any) -> Any:
            nonlocal calls
            calls += model.training
            if model.training and calls == step:
                raise Killed
            return plain(self, model, batch)

        monkeypatch.setattr(Judge, "loss_sum", mortal if step else plain)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("how", [{}, {"lora": True}], ids=str)
def test_a_killed_run_is_continued_by_the_same_command(
    how: dict[str, Any],
    make_config: MakeConfig,
    data: dict[str, str],
    kill_at: Callable[[int], None],
    tmp_path: Path,
) -> None:
    """Killed in step 5 of 6, with checkpoints at 2 and 4: the same weights, and the same result."""
    config = make_config(max_steps=6, eval_data=[data["held_out"]], eval_steps=2, **how)
    wanted = train(replace(config, output=tmp_path / "whole"))
    kill_at(5)
    with pytest.raises(Killed):
        train(config)
    assert not (tmp_path / "out" / "gram.json").exists()
    assert (
        max(path.name for path in (tmp_path / "out" / "checkpoints").glob("checkpoint-*")) == "checkpoint-4"
    )
    kill_at(0)
    with pytest.raises(ConfigError, match="holds an unfinished run with other settings"):
        train(replace(config, learning_rate=2e-3))
    with pytest.raises(ConfigError, match="holds an unfinished run with other settings"):
        train(replace(config, dtype="bf16"))
    result = train(config)
    timeless = {"output", "seconds"}
    assert {k: v for k, v in result.items() if k not in timeless} == {
        k: v for k, v in wanted.items() if k not in timeless
    }
    whole, again = saved_weights(tmp_path / "whole"), saved_weights(tmp_path / "out")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert manifest_of(tmp_path / "out") == manifest_of(tmp_path / "whole")


def test_an_unfinished_run_can_be_dropped(
    make_config: MakeConfig, kill_at: Callable[[int], None], tmp_path: Path
) -> None:
    """With other settings and ``overwrite`` the run starts anew: equal to one in a fresh folder."""
    kill_at(2)
    with pytest.raises(Killed):
        train(make_config(save_steps=1))
    kill_at(0)
    train(make_config(seed=3, overwrite=True))
    train(make_config(seed=3, output=tmp_path / "fresh"))
    assert weight_bytes(tmp_path / "out") == weight_bytes(tmp_path / "fresh")


def test_a_run_over_data_that_changed_is_not_continued(
    make_config: MakeConfig, kill_at: Callable[[int], None], tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows_of(make_preferences(24)))
    kill_at(2)
    with pytest.raises(Killed):
        train(make_config(data=[data], save_steps=1))
    kill_at(0)
    write_rows(tmp_path / "rows.jsonl", rows_of(make_preferences(24, seed=1)))
    with pytest.raises(ConfigError, match="holds an unfinished run over other data of the same name"):
        train(make_config(data=[data], save_steps=1))
    write_rows(tmp_path / "rows.jsonl", rows_of(make_preferences(24)))
    train(make_config(data=[data], save_steps=1))
    assert (tmp_path / "out" / "gram.json").is_file()


def test_a_run_of_an_earlier_version_that_recorded_less_is_continued(
    make_config: MakeConfig, kill_at: Callable[[int], None], tmp_path: Path
) -> None:
    """Whether data are of the Hub was not noted once; what was noted has to be the same still."""
    config = make_config(save_steps=1)
    kill_at(2)
    with pytest.raises(Killed):
        train(config)
    kill_at(0)
    record = tmp_path / "out" / "checkpoints" / "data.json"
    *sources, others = json.loads(record.read_text())
    less = [{name: value for name, value in source.items() if name != "hub"} for source in sources]
    assert less != sources
    for changed in ([{**less[0], "rows": 23}, *less[1:]], [*less, *less]):
        record.write_text(json.dumps([*changed, others]))
        with pytest.raises(ConfigError, match="over other data of the same name"):
            train(config)
    record.write_text(json.dumps([*less, others]))
    train(config)
    assert (tmp_path / "out" / "gram.json").is_file()


@pytest.mark.parametrize("what", ["template", "reference", "tokenizer_data"])
def test_a_run_with_other_files_of_the_same_names_is_not_continued(
    what: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The file or folder is exchanged under its name after a checkpoint was saved, and put back."""
    named, other = tmp_path / "named", tmp_path / "another"
    how: dict[str, Any] = {what: str(named), "save_steps": 1, "max_steps": 3}
    if what == "template":
        wording = load_template("compact").to_json()
        named.write_text(json.dumps(wording))
        other.write_text(json.dumps({**wording, "labels": ["1", "2"]}))
    elif what == "reference":
        train(make_config(output=named))
        train(make_config(output=other, seed=1))
        how |= {"objective": "likelihood", "learning_rate": 1e-5}
    else:
        how[what] = [f"{named}.jsonl"]
        for path, word in ((named, "zebrafish"), (other, "yesterday")):
            write_rows(path.with_suffix(".jsonl"), [{"text": f"a {word} there"}] * 200)
        named, other = named.with_suffix(".jsonl"), other.with_suffix(".jsonl")
    config = make_config(**how)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "save_checkpoint", interrupted)
        train(config)
    aside = tmp_path / "aside"
    named.rename(aside)
    other.rename(named)
    said = {"tokenizer_data": "with a tokenizer from other data", "reference": "against another reference"}
    with pytest.raises(ConfigError, match=f"unfinished run .*{said.get(what, 'with another template')}"):
        train(config)
    named.rename(other)
    aside.rename(named)
    train(config)
    assert (tmp_path / "out" / "gram.json").is_file()


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


class Writer:
    """In place of tensorboardX's: one file of numbers."""

    def __init__(self, log_dir: str) -> None:
        self.file = Path(log_dir) / f"events.{len(list(Path(log_dir).glob('events.*')))}"
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        with self.file.open("a") as file:
            file.write(f"{name} {step}\n")

    def add_text(self, *_: object) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


def test_what_trackers_write_stays(
    make_config: MakeConfig, kill_at: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where transformers' own callback puts it below the folder of the checkpoints, which goes at the end.

    Of a run that was killed in the last of three steps and went on: both its parts. The next run begins anew.
    """
    from transformers.integrations import integration_utils

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    monkeypatch.setattr(integration_utils, "default_logdir", lambda: "runs/now")
    how: dict[str, Any] = {"report_to": ["tensorboard"], "log_steps": 1, "max_steps": 3, "save_steps": 1}
    kill_at(3)
    with pytest.raises(Killed):
        train(make_config(**how))
    kill_at(0)
    train(make_config(**how))
    logs = tmp_path / "out" / "runs" / "now"
    steps = [
        {int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("train/loss")}
        for path in sorted(logs.iterdir())
    ]
    assert set().union(*steps) == {1, 2, 3} and len(steps) > 1
    assert not (tmp_path / "out" / "checkpoints").exists()
    (logs / "old").touch()
    train(make_config(**how, overwrite=True))
    assert logs.is_dir() and not (logs / "old").exists()


def test_a_half_written_checkpoint_alone_is_no_start(
    make_config: MakeConfig, tmp_path: Path, kill_at: Callable[[int], None]
) -> None:
    """Killed while the first one was written: the run begins again, even with other settings."""
    kill_at(2)
    with pytest.raises(Killed):
        train(make_config(save_steps=1))
    (tmp_path / "out" / "checkpoints" / "checkpoint-1" / "trainer_state.json").unlink()
    kill_at(0)
    train(make_config(seed=5))
    train(make_config(seed=5, output=tmp_path / "fresh"))
    assert weight_bytes(tmp_path / "out") == weight_bytes(tmp_path / "fresh")


def test_weights_that_are_no_numbers_leave_no_model(
    stage_1: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(stage_1, broken)
    model = load_model(broken, "lm").model
    with torch.no_grad():
        next(model.model.layers[1].parameters())[0] = float("nan")  # type: ignore[union-attr, operator, index]
    model.save_pretrained(broken)
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        train(make_config(model=str(broken), template=None, vocab_size=None))
    assert set(files_of(tmp_path / "out")) == {SETTINGS, "checkpoints/data.json"}
    assert not list(tmp_path.glob("*.draft"))


def test_a_diverging_run_leaves_no_model(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss diverges"):
        train(make_config(max_steps=20, learning_rate=1.0))
    assert not (tmp_path / "out" / "gram.json").exists()


# --- Several processes ---

LAUNCHED = """
import json, sys
from pathlib import Path
from gram.cli.main import main
from gram.training import pipeline

logs, plain = [], pipeline.fit

def noted(*arguments, **options):
    result = plain(*arguments, **options)
    logs.append([entry["loss"] for entry in result.history if "loss" in entry])
    return result

pipeline.fit = noted
codes = [main(command) for command in json.loads(sys.argv[1])]
Path(sys.argv[2] + pipeline.os.environ["RANK"]).write_text(json.dumps(logs))
sys.exit(max(codes))
"""


@pytest.mark.slow
def test_two_processes_train_like_one(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``gram train``, stage 1 and then stage 2 from it, under torchrun and in this process.

    Two processes with passes of at most 250 tokens, against one with whole steps: the same losses at every
    step, the same evaluation, the same weights. Answers differ much in length, so that the processes hold
    different numbers of tokens. Stage 2 replaces a finished model, and both processes meet a bad row.
    """
    bad: Rows = [{"prompt": "who ?", "a": "same", "b": "same", "p_a": 1.0}]
    pairs = write_rows(tmp_path / "rows.jsonl", [*rows_of(make_preferences(24)), *bad])
    shared = "--max-steps 4 --batch-size 8 --learning-rate 1e-3 --log-steps 1 --device cpu"

    def commands(folder: str) -> list[list[str]]:
        first, second = tmp_path / folder / "first", tmp_path / folder / "second"
        stage_1 = f"--stage pretrain --model preset:tiny --vocab-size 400 --data {data['unlabeled']}"
        stage_2 = f"--model {first} --data {pairs} --eval-data {data['held_out']} --on-error skip --overwrite"
        return [
            f"train {stage_1} --template compact --output {first} {shared}".split(),
            f"train {stage_2} --output {second} {shared}".split(),
        ]

    logs: list[list[float]] = []

    def noted(*arguments: Any, **options: Any) -> FitResult:
        result = fit(*arguments, **options)
        logs.append([entry["loss"] for entry in result.history if "loss" in entry])
        return result

    monkeypatch.setattr("gram.training.pipeline.fit", noted)
    assert [main(command) for command in commands("one")] == [0, 0]
    shutil.copytree(tmp_path / "one" / "second", tmp_path / "two" / "second")
    (tmp_path / "launched.py").write_text(LAUNCHED, encoding="utf-8")
    sparing = [[*command, "--token-budget", "250"] for command in commands("two")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, str(tmp_path / "launched.py"), json.dumps(sparing), str(tmp_path / "log")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for rank in "01":
        theirs = json.loads((tmp_path / f"log{rank}").read_text(encoding="utf-8"))
        assert [len(log) for log in theirs] == [4, 4]
        for log, wanted in zip(theirs, logs, strict=True):
            assert log == pytest.approx(wanted, rel=1e-5)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["stage"] for result in results] == ["pretrain", "finetune"], "only one process reports"
    assert results[1]["rejected"] == 1
    assert done.stderr.count("1 bad row rejected, see") == 1
    for name in ("first", "second"):
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert manifest_of(two).evaluation == pytest.approx(manifest_of(one).evaluation, rel=1e-5, abs=1e-6)
        assert files_of(two).keys() == files_of(one).keys()
        mine, theirs = saved_weights(one), saved_weights(two)
        for key, value in mine.items():
            # Adam makes a whole step of a gradient that is all rounding: a few entries may differ by it.
            difference = (theirs[key] - value).abs()
            assert difference.mean().item() < 1e-6 and difference.max().item() < 5e-4

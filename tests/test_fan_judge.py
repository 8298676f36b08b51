"""A fan judge from training to use: its folder, its numbers, and that no answer is read twice."""

from __future__ import annotations

import copy
import itertools
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gram
from conftest import make_preferences, run, sharpened
from gram import Pair, Preference, ResponsePair
from gram.adaptation.adapt import adapt
from gram.adaptation.learner import AdaptSettings
from gram.engine.choose import choose_engine
from gram.engine.choose_fan import choose_fan
from gram.engine.kept import Kept
from gram.engine.runner import Runner
from gram.errors import CheckpointError, ConfigError
from gram.modeling.loading import LoadedModel, load_model
from gram.modeling.manifest import read_manifest
from gram.objectives.language import Language
from gram.objectives.preference import Judge
from gram.rendering import FanRenderer, Renderer, load_template
from gram.rl import ReferenceReward
from gram.scoring.judge import JudgeModel
from gram.scoring.loading import wrap
from gram.scoring.local import LocalBackend
from gram.training.config import TrainConfig
from gram.training.distil import distilled
from gram.training.fit import FitSettings, fit
from gram.types import sigmoid

PROMPT = "what is the key of the tower ?"
ANSWERS = ["the silver key .", "bread", "a river of silver and music .", "the garden ."]


@pytest.fixture(scope="module")
def fan_folder(judge_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved judge of the tests, asked in the fan layout; its weights are those of the sequence judge."""
    folder = tmp_path_factory.mktemp("fan") / "judge"
    shutil.copytree(judge_folder, folder)
    content = json.loads((folder / "gram.json").read_text()) | {"layout": "fan"}
    (folder / "gram.json").write_text(json.dumps(content))
    return folder


def counted(model: Any) -> list[int]:
    """Filled with the number of tokens of every forward pass of a loaded judge."""
    sizes: list[int] = []
    body = model._backend._runner._model.base_model
    body.register_forward_pre_hook(
        lambda _, values, keywords: sizes.append(keywords["input_ids"].numel()), with_kwargs=True
    )
    return sizes


def lengths(model: Any, texts: list[str]) -> tuple[int, list[int], int]:
    """Tokens of the prompt's part, of each answer, and of what stands between and behind but for the cue."""
    renderer = model._backend._renderer
    items = renderer.judge([Pair(PROMPT, text, texts[0]) for text in texts])
    heads = [item.branches[0][0] for item in items]
    sizes = [item.branches[0][1] - item.branches[0][0] for item in items]
    first = items[0]
    between = first.branches[1][0] - first.branches[0][1]
    return heads[0], sizes, between + len(first.ids) - first.branches[1][1] - first.looking


def test_training_writes_a_fan_judge_that_loading_follows(rows: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "judge"
    base = ["train", "--model", "preset:tiny", "--data", rows, "--template", "compact", "--max-steps", 3]
    code, result, _ = run(capsys, *base, "--layout", "fan", "--output", out, "--batch-size", 8)
    assert code == 0 and result["engine"] == "fan"
    manifest = read_manifest(out)
    assert manifest is not None and (manifest.layout, manifest.looking, manifest.kind) == ("fan", 2, "judge")
    model = gram.load(out)
    found = model.compare([Pair(PROMPT, "bread", "silver")])
    assert np.isfinite(found.log_odds).all()
    assert gram.load(out, layout="sequence").compare([Pair(PROMPT, "bread", "silver")]) is not None
    # A second training goes on in the layout of the first.
    more = ["train", "--model", out, "--data", rows, "--max-steps", 1, "--output", tmp_path / "more"]
    assert run(capsys, *more)[1]["engine"] == "fan"


def test_scores_are_those_of_the_objective(fan_folder: Path, preset: LoadedModel) -> None:
    """What training sees of a pair is what scoring says: log-odds in both orders, in one pass or alone."""
    model: Any = gram.load(fan_folder)
    pairs = [item.pair for item in make_preferences(7)]
    backend = model._backend
    objective = Judge(
        backend._renderer,
        label_smoothing=0.1,
        engine=choose_fan(backend._runner._model, training=True),
    )
    batch = objective.collate(objective.encode([Preference(pair, 1.0) for pair in pairs]))
    with torch.no_grad():
        logits = objective._engine.next_logits(backend._runner._model, batch, objective._labels)
    wanted = (logits[:, 0] - logits[:, 1]).view(-1, 2).double().numpy() * [1, -1]
    found = model.compare(pairs).log_odds
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.ptp(found) > 0.1
    alone = np.concatenate([gram.load(fan_folder).compare([pair]).log_odds for pair in pairs[:3]])
    np.testing.assert_allclose(alone, found[:3], atol=2e-5)
    np.testing.assert_allclose(
        model.compare([p.swapped() for p in pairs]).log_odds, -found[:, ::-1], atol=2e-5
    )


def test_all_pairs_read_each_answer_once(fan_folder: Path) -> None:
    """Prompt, four answers, what stands between and behind, and two tokens for each of twelve verdicts."""
    model: Any = gram.load(fan_folder)
    head, sizes, rest = lengths(model, ANSWERS)
    read = counted(model)
    pairs = [Pair(PROMPT, a, b) for a, b in itertools.combinations(ANSWERS, 2)]
    found = model.compare(pairs)
    assert sum(read) == head + sum(sizes) + rest + 12 * 2
    apart = np.concatenate([gram.load(fan_folder).compare([pair]).log_odds for pair in pairs])
    np.testing.assert_allclose(found.log_odds, apart, atol=2e-5)


def test_a_group_against_a_reference_reads_it_once(fan_folder: Path) -> None:
    """A second group of three costs the prompt, three answers and six verdicts, and not the reference."""
    model: Any = gram.load(fan_folder)
    reward = ReferenceReward(model)
    groups = [["bread .", "music ."], ["the window .", "a letter and a bridge .", "silver ."]]
    head, sizes, _ = lengths(model, groups[1])
    reward([PROMPT] * 2, groups[0], [ANSWERS[0]] * 2)
    read = counted(model)
    got = reward([PROMPT] * 3, groups[1], [ANSWERS[0]] * 3)
    assert sum(read) == head + sum(sizes) + 6 * 2
    fresh = ReferenceReward(gram.load(fan_folder))([PROMPT] * 3, groups[1], [ANSWERS[0]] * 3)
    assert got.rewards == pytest.approx(fresh.rewards, abs=2e-5)


def test_rank_score_and_eval_take_it(fan_folder: Path, rows: Path, tmp_path: Path, capsys: Any) -> None:
    contest = tmp_path / "contest.jsonl"
    contest.write_text(json.dumps({"prompt": PROMPT, "responses": ANSWERS}))
    ranked = tmp_path / "ranked.jsonl"
    code, _, err = run(capsys, "rank", "--model", fan_folder, "--input", contest, "--output", ranked)
    assert code == 0, err
    wanted = gram.rank(gram.load(fan_folder), PROMPT, ANSWERS)
    [row] = [json.loads(line) for line in ranked.read_text().splitlines()]
    assert row["order"] == list(wanted.order)
    model = ["--model", fan_folder, "--output"]
    assert run(capsys, "score", *model, tmp_path / "s.jsonl", "--input", rows)[0] == 0
    code, _, err = run(capsys, "eval", *model, tmp_path / "eval", "--data", rows)
    assert code == 0, err


def test_a_served_fan_judge_says_the_same(fan_folder: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from served import Here, serving

    pairs = [Pair(PROMPT, a, b) for a, b in itertools.combinations(ANSWERS, 2)]
    with serving(Here(gram.load(fan_folder))) as server:
        found = gram.RemoteModel(server.url).compare(pairs)
    np.testing.assert_allclose(found.log_odds, gram.load(fan_folder).compare(pairs).log_odds, atol=2e-5)


def test_stage_1_reads_each_answer_by_itself(preset: LoadedModel) -> None:
    """The loss of a pair is the sum of those of its answers alone, whichever comes first."""
    fan = FanRenderer(preset.tokenizer, load_template("compact"), 512)
    pair = ResponsePair(PROMPT, ANSWERS[0], ANSWERS[2])
    objective = Language(fan)
    model = sharpened(copy.deepcopy(preset.model))

    def loss(item: ResponsePair) -> float:
        [sample] = objective.encode([item])
        assert len(sample.rows) == 2
        with torch.no_grad():
            return float(objective.loss_sum(model, objective.collate([sample])).loss)

    swapped = ResponsePair(PROMPT, pair.second, pair.first)
    assert loss(pair) == pytest.approx(loss(swapped), rel=1e-6)
    both = sum(loss(ResponsePair(PROMPT, text, text)) / 2 for text in (pair.first, pair.second))
    assert loss(pair) == pytest.approx(both, rel=1e-6)


def test_a_sequence_judge_labels_all_pairs(judge_folder: Path) -> None:
    """Three answers in two rows of one prompt make three pairs; a label is the teacher's mean log-odds."""
    rows = [
        Preference(Pair(PROMPT, ANSWERS[0], ANSWERS[1]), 1.0, group="keys"),
        Preference(Pair(PROMPT, ANSWERS[2], ANSWERS[1]), 0.0),
        Preference(Pair("another ?", "bread", "music"), 1.0),
    ]
    found = distilled(rows, str(judge_folder), device="cpu", bf16=False)
    assert [(row.pair.a, row.pair.b) for row in found] == [
        (ANSWERS[0], ANSWERS[1]),
        (ANSWERS[0], ANSWERS[2]),
        (ANSWERS[1], ANSWERS[2]),
        ("bread", "music"),
    ]
    wanted = sigmoid(gram.load(judge_folder).compare([row.pair for row in found]).log_odds.mean(axis=1))
    assert [row.p_a for row in found] == pytest.approx(wanted, abs=1e-6)
    assert np.ptp(wanted) > 0.05 and [row.group for row in found] == ["keys", "keys", "keys", ""]


def test_conversion_with_a_teacher(judge_folder: Path, rows: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "fan"
    flags = ["--model", judge_folder, "--distil", judge_folder, "--layout", "fan", "--data", rows]
    quick = ["--max-steps", 2, "--batch-size", 4, "--lora"]
    code, result, err = run(capsys, "train", *flags, "--output", out, *quick)
    assert code == 0, err
    manifest = read_manifest(out)
    assert manifest is not None and manifest.layout == "fan" and result["engine"] == "fan"
    assert manifest.training["distilled"] == str(judge_folder)
    assert manifest.objective["label_smoothing"] == 0


def test_adaptation_may_change_the_layout(judge_folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Adapted as a fan, compared with the sequence judge that it was; kept or not, the folder says which."""
    data = tmp_path / "labels.jsonl"
    labeled = [
        {"prompt": f"{item.pair.prompt[0].content} {k}", "chosen": item.pair.a, "rejected": item.pair.b}
        for k, item in enumerate(make_preferences(12))
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in labeled))
    quick = ["--max-steps", 2, "--folds", 2, "--learning-rates", 1e-3, "--layout", "fan"]
    out = tmp_path / "adapted"
    code, result, err = run(capsys, "adapt", "--model", judge_folder, "--data", data, "--output", out, *quick)
    assert code == 0, err
    manifest = read_manifest(out)
    assert manifest is not None and manifest.layout == ("fan" if result["adopted"] else "sequence")
    assert np.isfinite(gram.load(out).compare([Pair(PROMPT, "bread", "music")]).log_odds).all()


def test_adaptation_asks_the_weights_of_every_step(fan_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer's own optimizer moves the weights between questions: keeping what was read changes nothing.

    At 8 steps held-back rows are asked at step 2, 3, 4, 6 and 8 of each fold.
    """
    rows, how = silver(12, seed=2), AdaptSettings(max_steps=8, folds=2, learning_rates=(3e-3,))
    rows = [replace(row, pair=replace(row.pair, prompt=f"what {n} ?")) for n, row in enumerate(rows)]

    def losses() -> Any:
        loaded = load_model(fan_folder, "lm")
        renderer = FanRenderer(loaded.tokenizer, load_template("compact"), 512)
        judge = Judge(renderer, label_smoothing=0.1, engine=choose_fan(loaded.model, training=True))
        asked = wrap(loaded, source=fan_folder)
        return adapt(loaded.model, judge, asked, rows, how, progress=False).decision.choice.losses

    kept = losses()
    monkeypatch.setattr(Kept, "put", lambda *_: None)
    assert len(kept) == 6 and np.ptp(kept) > 0.1
    np.testing.assert_allclose(kept, losses(), atol=1e-4)


def test_what_has_no_fan_layout_is_refused(judge_folder: Path, scalar_folder: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": "m", "data": ["d"], "output": tmp_path}
    with pytest.raises(ConfigError, match="layout fan is for judges: other models"):
        TrainConfig(**how, objective="scalar", layout="fan")
    with pytest.raises(ConfigError, match="leave out engine plain"):
        TrainConfig(**how, engine="plain", layout="fan")
    with pytest.raises(ConfigError, match="distil goes with objective preference"):
        TrainConfig(**how, objective="scalar", distil="x")
    with pytest.raises(ConfigError, match="leave out engine plain"):
        gram.load(judge_folder, layout="fan", engine="plain")
    assert TrainConfig(**how, stage="pretrain", engine="plain", layout="fan").layout == "fan"
    with pytest.raises(ConfigError, match="layout is for judges, and this is a scalar"):
        gram.load(scalar_folder, layout="fan")
    with pytest.raises(ConfigError, match="is no judge, but a scalar model"):
        distilled([], str(scalar_folder), device="cpu", bf16=False)


def test_how_many_tokens_look_is_kept_with_the_model(fan_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "five"
    shutil.copytree(fan_folder, folder)
    content = json.loads((folder / "gram.json").read_text()) | {"looking": 5}
    (folder / "gram.json").write_text(json.dumps(content))
    pair, two, five = Pair(PROMPT, "bread", "music"), gram.load(fan_folder), gram.load(folder)
    assert abs(two.compare([pair]).log_odds - five.compare([pair]).log_odds).max() > 1e-4
    assert five._backend._renderer.judge([pair])[0].looking == 5  # type: ignore[union-attr]


def test_a_wrong_layout_in_the_folder_is_an_error(fan_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "odd"
    shutil.copytree(fan_folder, folder)
    content = json.loads((folder / "gram.json").read_text()) | {"layout": "star"}
    (folder / "gram.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="field 'layout' is 'star', must be sequence or fan"):
        gram.load(folder)


def silver(count: int, seed: int) -> list[Preference]:
    """Pairs of which the better answer names silver, the other one does not; A and B at random."""
    draw = random.Random(seed)
    words = ["river", "tower", "market", "garden", "bread", "music", "bridge", "window"]
    rows = []
    for _ in range(count):
        good, bad = ([draw.choice(words) for _ in range(draw.randint(2, 5))] for _ in range(2))
        good[draw.randrange(len(good))] = "silver"
        row = Preference(Pair("what ?", " ".join(good), " ".join(bad)), 1.0)
        rows.append(row if draw.random() < 0.5 else row.swapped())
    return rows


@pytest.mark.parametrize("layout", ["fan", "sequence"])
def test_a_judge_of_either_layout_is_right_as_a_fan(layout: str, preset: LoadedModel) -> None:
    """After 80 steps on such pairs: trained as a fan it is right in both orders, as a sequence on average.

    Branches are the same whichever role they have, so that only their places tell A from B. A sequence judge
    finds them where they stood in training, and keeps what it knows without any training as a fan.
    """
    model = copy.deepcopy(preset.model)
    how: Any = (preset.tokenizer, load_template("compact"), 512)
    fan = FanRenderer(*how)
    engine = choose_fan(model, training=True) if layout == "fan" else choose_engine(model, training=True)
    judge = Judge(fan if layout == "fan" else Renderer(*how), label_smoothing=0.1, engine=engine)
    settings = FitSettings(steps=80, batch_size=16, learning_rate=1e-3, adam_beta2=0.99)
    fit(model, judge, judge.encode(silver(1280, seed=0)), settings, title=None)
    fresh = silver(60, seed=1)
    asked = JudgeModel(LocalBackend(fan, Runner(model, layout="fan")), fan.template)
    verdicts = asked.compare([item.pair for item in fresh])
    labels = np.array([item.p_a for item in fresh]) > 0.5
    assert np.mean((verdicts.p_a > 0.5) == labels) > 0.95
    if layout == "fan":
        assert np.mean((verdicts.log_odds > 0) == labels[:, None]) > 0.95


@pytest.mark.parametrize("changed", [{"token_budget": 150}, {"gradient_checkpointing": True}])
def test_training_does_not_depend_on_how_it_is_cut(preset: LoadedModel, changed: dict[str, Any]) -> None:
    """Small passes, which read a prompt again, and layers that are computed twice give the same weights."""
    rows = make_preferences(12)
    weights = []
    for settings in ({}, changed):
        model = copy.deepcopy(preset.model)
        renderer = FanRenderer(preset.tokenizer, load_template("compact"), 512)
        judge = Judge(renderer, label_smoothing=0.1, engine=choose_fan(model, training=True))
        how = FitSettings(steps=3, batch_size=6, learning_rate=1e-3, **settings)
        losses = [
            entry["loss"] for entry in fit(model, judge, judge.encode(rows), how, title=None).history[:1]
        ]
        weights.append((losses, {name: value.detach() for name, value in model.named_parameters()}))
    (first, one), (second, two) = weights
    assert first == pytest.approx(second, rel=1e-5)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_typed_questions_and_tokens_are_asked_as_of_any_judge(fan_folder: Path, judge_folder: Path) -> None:
    fan, sequence = gram.load(fan_folder), gram.load(judge_folder)
    one, two = (model.token_logprobs(PROMPT, ANSWERS[0]) for model in (fan, sequence))  # type: ignore[union-attr]
    np.testing.assert_allclose(one.values, two.values, atol=1e-5)


@pytest.mark.parametrize(("trained", "other"), [("sequence", "fan"), ("fan", "sequence")])
def test_a_temperature_is_that_of_one_layout(
    trained: str, other: Any, judge_folder: Path, fan_folder: Path, rows: Path, tmp_path: Path, capsys: Any
) -> None:
    """Another layout has other log-odds: it gets no temperature, and none of its own is stored."""
    folder = tmp_path / "judge"
    shutil.copytree(fan_folder if trained == "fan" else judge_folder, folder)
    manifest = read_manifest(folder)
    assert manifest is not None
    replace(manifest, calibration={"temperature": 3.0}).write(folder)
    assert gram.load(folder).temperature == gram.load(folder, layout=trained).temperature == 3.0  # type: ignore[arg-type]
    assert gram.load(folder, layout=other).temperature == 1.0
    assert gram.load(folder, both_orders=False, max_length=99, neutralise=False).temperature == 3.0

    content = (folder / "gram.json").read_bytes()
    command = ["eval", "--model", folder, "--calibrate", rows, "--output", tmp_path / "out"]
    code, _, err = run(capsys, *command, "--layout", other)
    assert code == 1 and "in another template or layout than trained" in err
    assert (folder / "gram.json").read_bytes() == content and not (tmp_path / "out/records.jsonl").exists()

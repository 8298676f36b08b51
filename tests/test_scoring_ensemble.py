"""Several models asked as one: the rules by hand, their laws, and the commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_manifest, run, sharpened
from gram import Pair, Preference, PreferenceModel, ScalarModel, Verdicts
from gram.errors import ConfigError
from gram.modeling.loading import LoadedModel, add_score_head, build_preset
from gram.modeling.saving import save_checkpoint
from gram.rendering import Renderer
from gram.scoring.ensemble import RULES, JudgeEnsemble, ScorerEnsemble, combine_log_odds, combine_scores
from gram.scoring.scalar import Scorer
from gram.types import Usage, as_chat

each_rule = pytest.mark.parametrize("rule", RULES)


class Judge:
    """Says for every pair what it was told, in both orders."""

    template, temperature, slope, usage = None, 1.0, 1.0, Usage(tokens=10, truncated=1)

    def __init__(self, *log_odds: float, mass: float = 1.0) -> None:
        self._said = log_odds
        self._mass = mass

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int]:
        return [len(pair.a) for pair in pairs]

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        return Verdicts(np.array([self._said] * len(pairs)), np.full((len(pairs), 2), self._mass), self.usage)


class Table(Scorer):
    """Scores by a table."""

    def __init__(self, table: dict[str, float], beta: float = 1.0) -> None:
        self._table, self.beta, self.temperature, self._usage = table, beta, 1.0, Usage()

    def _score(self, prompts: Any, responses: Sequence[str]) -> Any:
        return np.array([self._table[text] for text in responses]), Usage(tokens=5 * len(responses))


def test_scores_by_hand() -> None:
    """Two answers, three members: (3, 1, 2) and (0, 0, 6). Means 2 and 2, minima 1 and 0, variances 2/3 and
    8; with penalty 0.3: 2 - 0.2 and 2 - 2.4.
    """
    scores = np.array([[3.0, 0.0], [1.0, 0.0], [2.0, 6.0]])
    assert combine_scores(scores, "mean") == pytest.approx([2, 2])
    assert combine_scores(scores, "minimum") == pytest.approx([1, 0])
    assert combine_scores(scores, "uncertainty_weighted", 0.3) == pytest.approx([1.8, -0.4])


def test_log_odds_by_hand() -> None:
    """(3, 1, 2): all for a, so 1, and 2 - 0.3 * 2/3. (-3, -1, -2): the mirror image. (-1, 2, 5): they
    disagree about the winner, so 0; mean 2, variance 6, 2 - 1.8 = 0.2. (-2, 2, 6): mean 2, variance 32/3,
    more than the lead bears: 0.
    """
    said = np.array([[3, -3, -1, -2], [1, -1, 2, 2], [2, -2, 5, 6]], dtype=float)
    assert combine_log_odds(said, "mean") == pytest.approx([2, -2, 2, 2])
    assert combine_log_odds(said, "minimum") == pytest.approx([1, -1, 0, 0])
    assert combine_log_odds(said, "uncertainty_weighted", 0.3) == pytest.approx([1.8, -1.8, 0.2, 0])


@each_rule
def test_the_laws(rule: Any) -> None:
    """Swapping sides swaps the sign; members in any order; members that agree are one; doubt never adds to a
    lead, nor turns it; no answer is worth more than the mean.
    """
    said = np.random.default_rng(0).normal(size=(4, 500)) * 3
    found, mean = combine_log_odds(said, rule), said.mean(axis=0)
    assert combine_log_odds(-said, rule) == pytest.approx(-found)
    assert combine_log_odds(said[::-1], rule) == pytest.approx(found)
    assert combine_log_odds(said[:1].repeat(3, axis=0), rule) == pytest.approx(said[0])
    assert (found * mean >= 0).all() and (np.abs(found) <= np.abs(mean) + 1e-12).all()
    assert (combine_scores(said, rule) <= mean + 1e-12).all()
    assert combine_scores(said[:1].repeat(3, axis=0), rule) == pytest.approx(said[0])
    assert np.isnan(combine_log_odds(np.full((2, 1), np.nan), rule)).all()


def test_no_penalty_is_the_mean() -> None:
    said = np.random.default_rng(1).normal(size=(3, 50))
    for combine in (combine_scores, combine_log_odds):
        assert combine(said, "uncertainty_weighted", 0.0) == pytest.approx(said.mean(axis=0))


def test_judges_are_combined_order_by_order() -> None:
    """(2, 1) and (4, -1): minimum 2 as shown, and a tie swapped, where they disagree; the masses' mean."""
    pairs = [Pair("?", "aa", "b")]
    both: Any = [Judge(2.0, 1.0, mass=0.2), Judge(4.0, -1.0, mass=0.6)]
    model = JudgeEnsemble(both, "minimum")
    verdicts = model.compare(pairs)
    assert verdicts.log_odds == pytest.approx(np.array([[2.0, 0.0]]))
    assert verdicts.mass == pytest.approx(np.array([[0.4, 0.4]]))
    assert (model.usage, model.tokens_cut(pairs)) == (Usage(tokens=20, truncated=2), [2])
    model.temperature = 2.0
    assert model.compare(pairs).log_odds[0, 0] == 1.0
    assert isinstance(model, PreferenceModel) and not isinstance(model, ScalarModel)


def test_scorers_are_combined_in_log_odds() -> None:
    """One member's scores count double (beta 2): (1, 3) -> (2, 6), and (4, 0). Means 3 and 3; minima 2 and 0.
    Centred on both answers, by 4 and 2: (-2, 2) and (2, -2): minima -2 and -2, and the mean is 0 for both.
    """
    members = [Table({"a": 1.0, "b": 3.0}, beta=2.0), Table({"a": 4.0, "b": 0.0})]
    prompts, answers = [as_chat("?")] * 2, ["a", "b"]
    assert ScorerEnsemble(members).score(prompts, answers) == pytest.approx([3, 3])
    model = ScorerEnsemble(members, "minimum")
    assert model.score(prompts, answers) == pytest.approx([2, 0])
    assert model.compare([Pair("?", "a", "b")]).log_odds == pytest.approx(np.array([[2.0, 2.0]]))
    model.centre(prompts, answers)
    assert model.offsets == pytest.approx([4, 2])
    assert model.score(prompts, answers) == pytest.approx([-2, -2])
    assert isinstance(model, PreferenceModel) and isinstance(model, ScalarModel)


def test_what_makes_no_ensemble() -> None:
    member = Table({})
    for wrong in (
        lambda: ScorerEnsemble([member]),
        lambda: ScorerEnsemble([member] * 2, "median"),  # type: ignore[arg-type]
        lambda: ScorerEnsemble([member] * 2, "mean", -1.0),
        lambda: ScorerEnsemble([member] * 2).centre([], []),
    ):
        with pytest.raises(ConfigError):
            wrong()


# --- Real models ---


@pytest.fixture(scope="module")
def folders(texts: list[str], renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two checkpoints of each kind, of different seeds."""
    made: dict[str, list[Path]] = {}
    for kind in ("judge", "scalar"):
        for seed in (0, 1):
            loaded: LoadedModel = build_preset("preset:tiny", texts, seed=seed, vocab_size=400)
            loaded = add_score_head(loaded, seed) if kind == "scalar" else loaded
            folder = tmp_path_factory.mktemp("members") / f"{kind}{seed}"
            manifest = make_manifest(kind, renderer)  # type: ignore[arg-type]
            save_checkpoint(folder, sharpened(loaded.model), loaded.tokenizer, manifest)
            made.setdefault(kind, []).append(folder)
    return made


@each_rule
@pytest.mark.parametrize("kind", ["judge", "scalar"])
def test_swapping_a_pair_swaps_the_verdict(
    kind: str, rule: Any, folders: dict[str, list[Path]], preferences: list[Preference]
) -> None:
    """P(a beats b) + P(b beats a) = 1, whatever the rule; members are those that load alone."""
    pairs = [item.pair for item in preferences[:6]]
    model = gram.ensemble(folders[kind], rule, device="cpu")
    if isinstance(model, ScorerEnsemble):
        model.centre([pair.prompt for pair in pairs], [pair.a for pair in pairs])
    there, back = model.compare(pairs), model.compare([pair.swapped() for pair in pairs])
    assert there.p_a + back.p_a == pytest.approx(1.0, abs=1e-5)
    if rule == "mean":
        alone = [gram.load(folder, device="cpu").compare(pairs).log_odds for folder in folders[kind]]
        assert there.log_odds == pytest.approx(np.mean(alone, axis=0), abs=1e-4)
        assert np.abs(alone[0] - alone[1]).max() > 0.1
    assert model.tokens_cut(pairs) == [0] * len(pairs)
    ranking = gram.rank(model, pairs[0].prompt, [pairs[0].a, pairs[0].b, pairs[1].a])
    assert sorted(ranking.order) == [0, 1, 2]


def rows_in(folder: Path, preferences: list[Preference]) -> Path:
    rows = [
        {"id": p.id, "prompt": p.pair.prompt[0].content, "a": p.pair.a, "b": p.pair.b, "p_a": p.p_a}
        for p in preferences[:6]
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_on_the_command_line(
    folders: dict[str, list[Path]],
    preferences: list[Preference],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``gram score`` and ``gram eval`` ask the ensemble; what it cannot do is said; another member, another
    run.
    """
    source, output = rows_in(tmp_path, preferences), tmp_path / "out.jsonl"
    one, two = folders["scalar"]
    base = ["score", "--model", one, "--input", source, "--output", output, "--device", "cpu"]
    rule = ["--ensemble-with", two, "--ensemble", "minimum"]
    code, _, error = run(capsys, *base, *rule)
    assert code != 0 and "a zero of its own" in error
    code, result, _ = run(capsys, *base, *rule, "--centre-on", source)
    assert (code, result["rows"]) == (0, 6)
    model: Any = gram.ensemble([one, two], "minimum", device="cpu")
    pairs = [Pair(p.pair.prompt[0].content, p.pair.a, p.pair.b) for p in preferences[:6]]
    model.centre([pair.prompt for pair in pairs] * 2, [p.a for p in pairs] + [p.b for p in pairs])
    written = [json.loads(line)["p_a"] for line in output.read_text(encoding="utf-8").splitlines()]
    assert written == pytest.approx(model.compare(pairs).p_a.tolist(), abs=1e-4)
    priced = ["--ensemble-with", two, "--ensemble", "uncertainty_weighted", "--ensemble-penalty", 3]
    code, _, error = run(capsys, *base, *priced, "--centre-on", source)
    assert code == 0, error
    costly: Any = gram.ensemble([one, two], "uncertainty_weighted", penalty=3.0, device="cpu")
    costly.centre([pair.prompt for pair in pairs] * 2, [p.a for p in pairs] + [p.b for p in pairs])
    written = [json.loads(line)["p_a"] for line in output.read_text(encoding="utf-8").splitlines()]
    assert written == pytest.approx(costly.compare(pairs).p_a.tolist(), abs=1e-4)
    assert written != pytest.approx(model.compare(pairs).p_a.tolist(), abs=1e-4)
    code, _, error = run(capsys, *base, "--ensemble", "minimum")
    assert code != 0 and "go with --ensemble-with" in error
    code, _, error = run(capsys, *base, "--ensemble-with", folders["judge"][0], "--kind", "judge")
    assert code != 0
    judges = ["eval", "--model", folders["judge"][0], "--ensemble-with", folders["judge"][1]]
    code, result, error = run(
        capsys, *judges, "--bench", source, "--output", tmp_path / "e", "--device", "cpu"
    )
    assert code == 0 and result["rows"] == 6, error
    code, _, error = run(
        capsys, *judges, "--centre-on", source, "--bench", source, "--output", tmp_path / "f"
    )
    assert code != 0 and "judges that compare have no zero" in error
    code, _, error = run(capsys, *judges, "--calibrate", source, "--output", tmp_path / "g")
    assert code != 0 and "--calibrate fits one model" in error


def test_members_of_two_kinds_are_refused(folders: dict[str, list[Path]]) -> None:
    with pytest.raises(ConfigError, match="of judges or of models that score, not of both"):
        gram.ensemble([folders["judge"][0], folders["scalar"][0]], device="cpu")

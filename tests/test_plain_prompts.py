"""Wherever a prompt is taken, a plain string or a list of dicts does; what cannot be read is named.

The places are the rows of ``SCORING`` and ``ASKING``: a new one needs a row, and is tried with everything.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gram
from gram.errors import DataError, WrongTypeError
from gram.messages import as_chats, as_text
from gram.modeling.writer import Writer
from gram.ranking import rank_many
from gram.scoring.ensemble import JudgeEnsemble, ScorerEnsemble
from gram.types import Answer, Contest, Message, Pair, Preference, ResponsePair, Text
from small_tokenizers import byte_level

QUESTION = "what is the bread of the tower ?"
ANSWERS = ["the bread is old .", "the bread of the tower is quiet and green . #3"]
FORMS: dict[str, Any] = {
    "string": QUESTION,
    "numpy string": np.array([QUESTION])[0],
    "messages": (Message("user", QUESTION),),
    "list of dicts": [{"role": "user", "content": QUESTION}],
    "array of dicts": np.array([{"role": "user", "content": QUESTION}], dtype=object),
    "dicts with more": [{"role": "user", "content": QUESTION, "name": None, "tool_calls": []}],
    "text parts": [
        {
            "role": "user",
            "content": [{"type": "text", "text": QUESTION[:9], "image": None}, {"text": QUESTION[9:]}],
        }
    ],
}
LISTS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "array": lambda values: np.array([*values, None], dtype=object)[:-1],
    "array of strings": lambda values: np.array(values) if isinstance(values[0], str) else list(values),
}
Models = SimpleNamespace


@pytest.fixture(scope="module")
def models(judge_folder: Path, likelihood_folder: Path, scalar_folder: Path) -> Models:
    judge, likelihood, scalar = (
        gram.load(folder, device="cpu") for folder in (judge_folder, likelihood_folder, scalar_folder)
    )
    return SimpleNamespace(
        judge=judge,
        likelihood=likelihood,
        scalar=scalar,
        judges=JudgeEnsemble([judge, judge]),
        scorers=ScorerEnsemble([likelihood, scalar]),  # type: ignore[list-item]
        renderer=likelihood._renderer,  # type: ignore[union-attr]
    )


def centred(models: Models, prompts: Any, responses: Any) -> Any:
    ensemble = ScorerEnsemble([models.scalar, models.scalar], "minimum")
    ensemble.centre(prompts, responses)
    return ensemble.offsets


def flat(rendered: Any) -> list[int]:
    return [token for item in rendered for token in item.ids]


# Each takes the models, as many prompts as responses, and gives numbers.
SCORING: dict[str, Callable[[Models, Any, Any], Any]] = {
    "likelihood.score": lambda m, x, y: m.likelihood.score(x, y),
    "scalar.score": lambda m, x, y: m.scalar.score(x, y),
    "ensemble.score": lambda m, x, y: m.scorers.score(x, y),
    "ensemble.centre": centred,
    "renderer.answers": lambda m, x, y: flat(m.renderer.answers(x, y)),
    "renderer.answers in the judge": lambda m, x, y: flat(m.renderer.answers(x, y, "judge")),
}
# Each takes one prompt and its responses.
ASKING: dict[str, Callable[[Models, Any, Any], Any]] = {
    "Pair": lambda m, x, y: m.judge.compare(iter([Pair(x, *y)])).p_a,
    "Pair, ensemble": lambda m, x, y: m.judges.compare(iter([Pair(x, *y)])).p_a,
    "Pair, scorers": lambda m, x, y: m.scorers.compare(iter([Pair(x, *y)])).p_a,
    "Pair, rendered": lambda m, x, y: m.renderer.judge(iter([Pair(x, *y)]))[0].ids,
    "Preference": lambda m, x, y: m.likelihood.compare([Preference(Pair(x, *y), 1.0).pair]).p_a,
    "Contest": lambda m, x, y: rank_many(m.judge, iter([Contest(x, y)]))[0].strengths,  # type: ignore[arg-type]
    "rank": lambda m, x, y: gram.rank(m.judge, x, y).strengths,
    "best_of_n": lambda m, x, y: gram.best_of_n(m.judge, x, y),
    "Answer": lambda m, x, y: m.scalar.score([Answer(x, text).prompt for text in y], y),
    "ResponsePair": lambda m, x, y: m.scalar.score([ResponsePair(x, *y).prompt] * 2, y),
}


@pytest.mark.parametrize("place", SCORING)
def test_every_form_of_a_prompt_scores_alike(place: str, models: Models) -> None:
    wanted = SCORING[place](models, [(Message("user", QUESTION),)] * 2, ANSWERS)
    for name, prompt in FORMS.items():
        assert SCORING[place](models, [prompt] * 2, ANSWERS) == pytest.approx(wanted, abs=1e-6), name
    for name, listed in LISTS.items():
        got = SCORING[place](models, listed([QUESTION] * 2), listed(ANSWERS))
        assert got == pytest.approx(wanted, abs=1e-6), name


@pytest.mark.parametrize("place", ASKING)
def test_every_form_of_a_prompt_is_asked_alike(place: str, models: Models) -> None:
    wanted = ASKING[place](models, (Message("user", QUESTION),), ANSWERS)
    for name, prompt in FORMS.items():
        assert ASKING[place](models, prompt, ANSWERS) == pytest.approx(wanted, abs=1e-6), name


WRONG_PROMPTS: list[tuple[Any, str]] = [
    (None, r"prompt.*: expected a string, or a list of messages, got nothing"),
    (3, r"prompt.*got int"),
    (b"why ?", r"prompt.*got bytes"),
    ({"role": "user", "content": "q"}, r"prompt.*got dict"),
    (Message("user", "q"), r"prompt.*got Message"),
    ([["user", "q"]], r"prompt.*\[0\]': expected a message .* got list"),
    (["q"], r"prompt.*\[0\]': expected a message .* got a single string"),
    ([{"from": "human", "value": "q"}], r"prompt.*\[0\]\.role': expected a string, got nothing"),
    ([{"role": "user"}], r"prompt.*\[0\]\.content': expected a string, got nothing"),
    ([{"role": "user", "content": None}], r"prompt.*\[0\]\.content': expected a string, got nothing"),
    ([{"role": "user", "content": {"text": "q"}}], r"prompt.*\[0\]\.content': expected a string, got dict"),
    (
        [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image_url", "url": "x"}]}],
        r"prompt.*\[0\]\.content\[1\]': holds a part of the type 'image_url'",
    ),
    ([{"role": "user", "content": [{"type": "text", "text": None}]}], r"\.content\[0\]\.text': expected"),
    ([{"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}], r"tool_calls': a tool call needs"),
    ("half a pair \ud800", r"prompt.*half of a surrogate pair"),
    ([{"role": "user", "content": "\udfff"}], r"content': holds half of a surrogate pair"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "reason"), WRONG_PROMPTS)
def test_a_prompt_that_cannot_be_read_is_named(prompt: Any, reason: str, models: Models) -> None:
    """By argument and position: the second of two, here; and always as one of our errors."""
    for place, ask in SCORING.items():
        with pytest.raises(DataError, match=reason) as caught:
            ask(models, [QUESTION, prompt], ANSWERS)
        assert "prompts[1]" in str(caught.value) or "content'" in str(caught.value), place
    for ask in ASKING.values():
        with pytest.raises(DataError, match=reason):
            ask(models, prompt, ANSWERS)


@pytest.mark.parametrize(
    ("prompts", "responses", "reason"),
    [
        (QUESTION, ANSWERS[:1], r"'prompts': expected a list of prompts, got a single string"),
        ({"role": "user", "content": "q"}, ANSWERS[:1], r"'prompts': expected a list of prompts, got dict"),
        ([{"role": "user", "content": "q"}], ANSWERS[:1], r"'prompts\[0\]': expected a string, or a list of"),
        ([QUESTION], ANSWERS[0], r"'responses': expected a list of strings, got a single string"),
        ([QUESTION], None, r"'responses': expected a list of strings, got nothing"),
        ([QUESTION], {ANSWERS[0]}, r"'responses': expected a list of strings, got set"),
        ([QUESTION] * 2, ["a", 3], r"'responses\[1\]': expected a string, got int"),
        ([QUESTION] * 2, ["a", None], r"'responses\[1\]': expected a string, got nothing"),
        ([QUESTION], ["\ud800"], r"'responses\[0\]': holds half of a surrogate pair"),
        (
            [QUESTION],
            [[{"role": "assistant", "content": "a"}]],
            r"'responses\[0\]': expected a string, got l",
        ),
        ([QUESTION], [], r"1 prompts but 0 responses"),
        ([], ANSWERS, r"0 prompts but 2 responses"),
    ],
)
def test_lists_that_are_none_are_named(prompts: Any, responses: Any, reason: str, models: Models) -> None:
    """A single string would be read letter by letter."""
    for ask in SCORING.values():
        with pytest.raises((DataError, ValueError), match=reason):
            ask(models, prompts, responses)


def test_nothing_in_nothing_out(models: Models) -> None:
    for name in ("likelihood", "scalar"):
        assert getattr(models, name).score([], []).shape == getattr(models, name).score(iter(()), ()).shape
    for name in ("judge", "judges", "scorers", "likelihood"):
        assert len(getattr(models, name).compare([])) == 0
        assert getattr(models, name).tokens_cut(iter([])) == []
    assert rank_many(models.judge, []) == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Contest("q", "an answer"), r"'responses': expected a list of strings, got a single string"),  # type: ignore[arg-type]
        (lambda: Contest("q", ["a", 3]), r"'responses\[1\]': expected a string, got int"),  # type: ignore[list-item]
        (lambda: Pair("q", 1, "b"), r"'a': expected a string, got int"),  # type: ignore[arg-type]
        (lambda: Pair("q", "a", ["b"]), r"'b': expected a string, got list"),  # type: ignore[arg-type]
        (lambda: Preference(("q", "a", "b"), 1.0), r"'pair': expected a Pair, got tuple"),  # type: ignore[arg-type]
        (lambda: Answer("q", None), r"'response': expected a string, got nothing"),  # type: ignore[arg-type]
        (lambda: ResponsePair("q", "a", b"b"), r"'second': expected a string, got bytes"),  # type: ignore[arg-type]
        (lambda: Text(7), r"'text': expected a string, got int"),  # type: ignore[arg-type]
        (lambda: Message("user", ["q"]), r"'content': expected a string, got list"),  # type: ignore[arg-type]
        (lambda: gram.rank("gram-135m", "q", ["a"]), r"'model': expected a model that compares"),  # type: ignore[arg-type]
        (lambda: gram.ensemble("gram-135m"), r"'paths': expected a list of folders or names, got a single"),
    ],
)
def test_nouns_refuse_what_they_are_not(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(TypeError, match=reason) as caught:
        make()
    assert isinstance(caught.value, gram.GramError)


def test_only_pairs_are_compared(models: Models) -> None:
    pair = Pair("q", "a", "b")
    for name in ("judge", "judges", "scorers", "likelihood"):
        model = getattr(models, name)
        for ask in (model.compare, model.tokens_cut):
            with pytest.raises(WrongTypeError, match="'pairs': expected a list of Pair, got Pair"):
                ask(pair)
            with pytest.raises(WrongTypeError, match=r"'pairs\[1\]': expected a Pair, got Preference"):
                ask([pair, Preference(pair, 1.0)])
    with pytest.raises(WrongTypeError, match=r"'contests\[0\]': expected a Contest, got Pair"):
        rank_many(models.judge, [pair])  # type: ignore[list-item]
    with pytest.raises(WrongTypeError, match="'texts': expected a list of strings"):
        models.renderer.texts("a text")


def test_numpy_strings_become_plain_ones() -> None:
    assert type(as_text(np.str_("a"), "x")) is str
    assert type(Pair(np.str_("q"), np.str_("a"), "b").a) is str


def test_a_writer_takes_plain_prompts() -> None:
    class Model:
        training = False

        def eval(self) -> None: ...
        def train(self, mode: bool) -> None: ...

    class Plain(Writer):
        def _write(self, texts: Any) -> list[str]:
            return list(texts)

    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    writer = Plain(Model(), byte_level([], template=template))  # type: ignore[arg-type]
    assert writer(["one", [{"role": "user", "content": "two"}]]) == ["user: one", "user: two"]
    assert as_chats(iter(["one"])) == [(Message("user", "one"),)]

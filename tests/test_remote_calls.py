"""Calls of remote judges: tried again until a deadline, within a budget, kept on disk, side by side."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from conftest import make_preferences, run
from fake_servers import Fake, log_odds, running
from gram.asking import LoadOptions
from gram.errors import ConfigError, ScoringError, UnreachableError
from gram.rendering import load_template
from gram.scoring.remote.prompts import shown_text
from gram.scoring.remote.source import RemoteSource
from gram.wire import RefusedError

PAIRS = [item.pair for item in make_preferences(6, seed=3)]
KEY = "sk-a-key-of-many-letters"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with running(Fake()) as server:
        yield server


def name_of(fake: Fake) -> str:
    return f"openai:judge@{fake.v1}"


def right() -> Any:
    wording = load_template(None)
    both = [[shown_text(x, wording, True) for x in (pair, pair.swapped())] for pair in PAIRS]
    return pytest.approx(np.array([[log_odds(x), -log_odds(y)] for x, y in both]))


def compare(fake: Fake, **options: Any) -> Any:
    return gram.load(name_of(fake), **options).compare(PAIRS)


@pytest.mark.parametrize(
    "failure",
    [
        (500, {"error": {"message": "an accident"}}, {}),
        (502, b"<html>bad gateway</html>", {}),
        (503, {"error": "loading the model"}, {}),
        (504, {}, {}),
        (529, {"error": {"message": "overloaded"}}, {}),
        (408, {}, {}),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "0.2"}),
        1.0,  # seconds without an answer: the try is given up after a third of the deadline, 0.8
    ],
)
def test_what_may_pass_is_tried_again(fake: Fake, failure: Any) -> None:
    fake.failures = [failure]
    assert compare(fake, deadline=2.4).log_odds == right()
    assert len(fake.asked) == 13


def test_nobody_comes_back_before_a_server_wants_it(fake: Fake) -> None:
    """``Retry-After`` in seconds, or as the date until which to wait (to the second)."""
    until = datetime.now(UTC) + timedelta(seconds=2)
    fake.failures = [
        (429, {}, {"Retry-After": "0.6"}),
        (503, {}, {"Retry-After": format_datetime(until, usegmt=True)}),
    ]
    compare(fake)
    assert fake.times[1] - fake.times[0] >= 0.6
    assert fake.times[2] - fake.times[1] > 0.1 and datetime.now(UTC) >= until.replace(microsecond=0)


def test_waiting_longer_than_the_deadline_is_given_up_at_once(fake: Fake) -> None:
    fake.failures = [(429, {"error": {"message": "come tomorrow"}}, {"Retry-After": "86400"})]
    start = time.monotonic()
    with pytest.raises(ScoringError, match="429: come tomorrow"):
        compare(fake, deadline=30.0)
    assert time.monotonic() - start < 10 and len(fake.asked) == 1


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ((400, {"error": {"message": "the prompt is too long"}}, {}), "400: the prompt is too long"),
        ((404, {"message": "no model judge"}, {}), "404: no model judge"),
        ((429, {"error": {"message": "pay", "code": "insufficient_quota"}}, {}), "429: pay"),
        ((200, b"<html>please log in</html>", {}), "the answer is no JSON: '<html>please log in"),
    ],
)
def test_what_does_not_pass_is_told_at_once(fake: Fake, failure: Any, says: str) -> None:
    fake.failures = [failure] * 3  # a 400 is tried in the three ways of asking
    with pytest.raises(ScoringError, match=says):
        compare(fake)
    assert len(fake.asked) <= 3


def test_no_answer_within_the_deadline(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    """After three tries the waiting is told, once."""
    fake.failures = [(503, {"error": "loading"}, {})] * 50
    with pytest.raises(UnreachableError, match=r"503: loading \(given up after 3 s\)"):
        compare(fake, deadline=3.0)
    assert [record.getMessage() for record in caplog.records] == [
        f"{fake.url}: 503: loading; trying again for up to 3 s"
    ]


def test_the_key_comes_from_the_environment_and_is_never_shown(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A server repeats a wrong key in its error; OpenAI's key goes to nobody else."""
    fake.token = KEY
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ScoringError, match=r"401: Incorrect API key provided:$"):
        compare(fake)
    monkeypatch.setenv("GRAM_API_KEY", "sk-the-wrong-one")
    with pytest.raises(ScoringError, match=r"provided: \[token\]$"):
        compare(fake)
    monkeypatch.setenv("GRAM_API_KEY", KEY)
    assert compare(fake, cache=tmp_path / "answers").log_odds == right()
    assert KEY.encode() not in (tmp_path / "answers").read_bytes()
    assert KEY not in repr(vars(gram.load(name_of(fake)))) + "".join(capsys.readouterr())


def test_requests_go_side_by_side_and_no_more_than_allowed(fake: Fake) -> None:
    fake.pause = 0.05
    for connections in (1, 4):
        fake.most_at_once = 0
        compare(fake, connections=connections)
        assert fake.most_at_once == connections


def test_the_first_failure_ends_the_others(fake: Fake) -> None:
    fake.failures = [0.0, 0.0, (403, {"error": {"message": "no"}}, {})]
    fake.pause = 0.02
    with pytest.raises(ScoringError, match="403: no"):
        compare(fake, connections=2)
    assert len(fake.asked) < 8


def test_a_budget_of_tokens(fake: Fake, tmp_path: Path) -> None:
    """101 tokens each: 505 are four requests within, and a fifth reaches it. What was answered is kept."""
    cache = tmp_path / "answers.sqlite"
    with pytest.raises(ScoringError, match=r"the budget of 505 tokens is spent \(505\)"):
        compare(fake, spend=505, connections=1, cache=cache)
    assert len(fake.asked) == 5
    assert compare(fake, spend=7 * 101, connections=1, cache=cache).log_odds == right()
    assert len(fake.asked) == 12
    fake.change = lambda answer: answer | {"usage": None}
    with pytest.raises(ScoringError, match="tells no usage, so that spend= cannot be held to"):
        compare(fake, spend=505)


def test_tokens_of_a_text_are_no_part_of_the_budget() -> None:
    """vLLM's ``/tokenize`` tells no usage, and no model reads what it is asked: 12 prompts of 101 tokens."""
    with running(Fake("vllm")) as fake:
        assert compare(fake, spend=12 * 101, connections=1).log_odds == right()
        assert len(fake.bodies("/tokenize")) == 2


def test_what_was_answered_is_not_asked_again(fake: Fake, tmp_path: Path) -> None:
    """By all that is asked: another template, model or server is asked anew. No errors are kept."""
    cache = tmp_path / "answers.sqlite"
    fake.change = lambda answer: answer | {"choices": [{"logprobs": None}]}
    with pytest.raises(ScoringError, match="ignores logprobs"):
        compare(fake, cache=cache)
    fake.change = lambda answer: answer
    fake.asked.clear()
    first = compare(fake, cache=cache)
    assert len(fake.asked) == 12 and first.usage.tokens == 1200
    again = compare(fake, cache=str(cache))
    assert len(fake.asked) == 12 and again.usage.tokens == 0 and again.usage.judged == 12
    assert (again.log_odds == first.log_odds).all()
    compare(fake, cache=cache, template="compact")
    assert len(fake.asked) == 24
    gram.load(f"openai:other@{fake.v1}", cache=cache).compare(PAIRS)
    assert len(fake.asked) == 36
    with running(Fake()) as other:
        compare(other, cache=cache)
        assert len(other.asked) == 12


def test_a_file_of_something_else_is_no_cache(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes, which are long enough to be no header of a database\n" * 9)
    with sqlite3.connect(tmp_path / "shop.sqlite") as shop:
        shop.execute("CREATE TABLE orders (id INTEGER)")
    for name in ("notes.txt", "shop.sqlite", "no/such/folder"):
        before = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        with pytest.raises(
            ConfigError, match=f"{name}: (cannot be used to keep|is a database of something else)"
        ):
            compare(fake, cache=tmp_path / name)
        assert before == ((tmp_path / name).read_bytes() if (tmp_path / name).exists() else None)


def test_a_source_goes_to_another_process(fake: Fake) -> None:
    """With connections of its own, also after the first was asked."""
    source = RemoteSource(name_of(fake), LoadOptions())
    found = source.fingerprint()
    copy: RemoteSource = pickle.loads(pickle.dumps(source))
    assert copy.fingerprint() == found and copy.load().compare(PAIRS).log_odds == right()


def test_an_error_comes_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(RefusedError("http://h/v1: 400: no", 400)))
    assert str(error) == "http://h/v1: 400: no" and isinstance(error, ScoringError)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": x.pair.prompt[-1].content, "chosen": x.pair.a, "rejected": x.pair.b, "id": x.id}
        for x in make_preferences(150, seed=6)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_commands_take_it_and_go_on_where_they_were_stopped(
    fake: Fake, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """150 rows in writes of 128: the server dies in the second; then only what is missing is asked."""
    fake.failures = [0.0] * 260 + [(403, {"error": {"message": "closed"}}, {})]
    output = tmp_path / "scores.jsonl"
    command = ("score", "--model", name_of(fake), "--input", pairs, "--output", output)
    code, _, err = run(capsys, *command)
    assert code == 1 and "403: closed" in err and not output.exists()
    fake.failures, before = [], len(fake.asked)
    code, result, err = run(capsys, *command)
    assert code == 0, err
    assert (result["rows"], result["resumed"], result["dtype"]) == (150, 128, None)
    assert len(fake.asked) - before == 44 and 0 < result["label_mass"] < 1
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 150 and "bounded" not in rows[0]


def test_rows_say_where_they_are_bounds(
    fake: Fake, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In gram score, and in the records and the report of gram eval."""
    fake.model = lambda prompt: {"A": 0.6, "C": 0.3} | {f"w{k}": 0.1 / 40 for k in range(40)}
    command = ("--model", name_of(fake), "--output", tmp_path / "out")
    code, result, err = run(capsys, "score", *command, "--input", pairs)
    assert code == 0 and result["bounded"] == 300, err
    assert json.loads((tmp_path / "out").read_text().splitlines()[0])["bounded"] == [True, True]
    command = ("--model", name_of(fake), "--output", tmp_path / "report", "--max-per-source", 20)
    code, result, err = run(capsys, "eval", *command, "--data", pairs)
    assert code == 0, err
    record = json.loads((tmp_path / "report" / "records.jsonl").read_text().splitlines()[0])
    assert record["bounded"] == [True, True]
    assert json.loads((tmp_path / "report" / "results.json").read_text())["bounded"] == 20
    page = (tmp_path / "report" / "report.html").read_text()
    assert "rows whose log-odds are bounds" in page and "openai:judge on pairs" in page
    one = ("--model", name_of(fake), "--output", tmp_path / "one", "--max-per-source", 20, "--single-order")
    assert run(capsys, "eval", *one, "--data", pairs)[0] == 0
    bounded = {
        tuple(json.loads(line)["bounded"])
        for line in (tmp_path / "one" / "records.jsonl").read_text().splitlines()
    }
    assert bounded == {(True, False), (False, True)}  # the order that was asked


@pytest.mark.parametrize("command", ["rank", "score", "eval", "mine"])
def test_no_torch_is_loaded(command: str, fake: Fake, pairs: Path, tmp_path: Path) -> None:
    contests = tmp_path / "contests.jsonl"
    contests.write_text(json.dumps({"prompt": "why ?", "responses": ["so", "because", "it is"]}) + "\n")
    data = ["--data", str(pairs)] if command == "eval" else ["--input", str(contests)]
    arguments = [command, "--model", name_of(fake), *data, "--output", str(tmp_path / "o")]
    code = (
        "import sys; from gram.cli.main import main; "
        f"code = main({arguments!r}); print(sorted({{'torch', 'transformers'}} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


def test_what_commands_refuse(
    fake: Fake,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before a model is fetched: there is none here to load."""
    monkeypatch.setenv("GRAM_HOME", str(tmp_path / "empty"))
    asked = ("--model", name_of(fake), "--output", tmp_path / "o")
    for more, says in {
        ("--workers", "2"): "--workers: not for a remote judge (--connections",
        ("--ensemble-with", "x"): "--ensemble-with: not for a remote judge",
        ("--device", "cpu"): "device: not for openai:, which takes",
        ("--cache", pairs): "cannot be used to keep answers",
    }.items():
        code, _, err = run(capsys, "score", *asked, "--input", pairs, *more)
        assert code == 1 and says in err, err
    code, _, err = run(capsys, "score", *asked, "--input", pairs, "--cache", tmp_path / "o")
    assert code == 1 and "is an input" in err
    together = ("--model", "gram-135m", "--ensemble-with", name_of(fake), "--output", tmp_path / "o")
    code, _, err = run(capsys, "score", *together, "--input", pairs)
    assert code == 1 and "this takes models that are here" in err
    code, _, err = run(capsys, "serve", "--model", name_of(fake))
    assert code == 1 and "is a server already" in err
    code, _, err = run(capsys, "doctor", "--model", name_of(fake))
    assert code == 1 and "the doctor looks at a model's files" in err
    code, _, err = run(capsys, "score", "--model", "gram-135m", *asked[2:], "--input", pairs, "--spend", "9")
    assert code == 1 and "spend: for remote judges only" in err
    code, _, err = run(
        capsys, "eval", "--model", name_of(fake), "--calibrate", pairs, "--output", tmp_path / "c"
    )
    assert code == 1 and "give that, not a server" in err


def test_a_served_model_by_its_address(judge_folder: Path) -> None:
    """``gram.load`` of the address of ``gram serve`` is ``gram.RemoteModel``."""
    from served import Here, serving

    here = gram.load(judge_folder)
    with serving(Here(here)) as server:
        there = gram.load(server.url)
        assert isinstance(there, gram.RemoteModel)
        assert there.compare(PAIRS).log_odds == pytest.approx(here.compare(PAIRS).log_odds, abs=1e-5)

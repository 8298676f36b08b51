"""``RemoteModel``: a served model is used as one that is here, by the library and by trainers' rewards."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

import gram
from conftest import make_preferences
from gram.errors import ConfigError, ScoringError
from gram.evaluation import evaluate
from gram.evaluation.items import Item
from gram.rl import GroupReward, LikelihoodReward, ReferenceReward
from gram.rl.openrlhf import OpenRlhfReward
from gram.rl.trl import AsyncTrlReward, TrlReward
from gram.rl.verl import VerlReward
from gram.scoring.rows import score_rows
from gram.serving.client import RemoteScorer
from gram.types import Pair, RewardModel, ScalarModel
from served import Here, Served, serving, together, until
from test_serving_queue import Longer

EXACT = 4e-6


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [item.pair for item in make_preferences(20, seed=8)]


@pytest.fixture(scope="module")
def judge(judge_folder: Path) -> Any:
    return gram.load(judge_folder)


@pytest.fixture(scope="module")
def served(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder))) as server:
        yield server


@pytest.fixture
def remote(served: Served) -> gram.RemoteModel:
    return gram.RemoteModel(served.url)


def test_it_is_a_reward_model(remote: gram.RemoteModel, judge: Any, pairs: list[Pair]) -> None:
    assert isinstance(remote, RewardModel) and not isinstance(remote, ScalarModel)
    assert (remote.name, remote.kind, remote.dtype, remote.slope) == ("tiny", "judge", "fp32", 1.0)
    assert remote.template is not None and remote.template.hash == judge.template.hash
    verdicts, expected = remote.compare(pairs), judge.compare(pairs)
    assert verdicts.log_odds == pytest.approx(expected.log_odds, abs=EXACT)
    assert verdicts.mass == pytest.approx(expected.mass, abs=EXACT)
    assert remote.usage.tokens == pytest.approx(expected.usage.tokens, rel=0.02)
    assert remote.usage.judged == 40 and remote.usage.label_mass == pytest.approx(expected.usage.label_mass)
    assert len(remote.compare([])) == 0
    remote.temperature = 2.0
    assert remote.compare(pairs).log_odds == pytest.approx(expected.log_odds / 2, abs=EXACT)
    assert remote.slope == 0.5


@pytest.mark.parametrize("kind", ["likelihood", "scalar"])
def test_one_that_scores(kind: str, request: pytest.FixtureRequest, pairs: list[Pair]) -> None:
    model: Any = gram.load(request.getfixturevalue(f"{kind}_folder"))
    prompts, answers = [pair.prompt for pair in pairs], [pair.a for pair in pairs]
    with serving(Here(model, kind)) as server:
        remote = gram.RemoteModel(server.url)
        assert isinstance(remote, RemoteScorer) and isinstance(remote, ScalarModel)
        assert remote.template is None
        assert remote.slope == model.slope
        assert remote.score(prompts, answers) == pytest.approx(model.score(prompts, answers), rel=1e-6)
        expected = model.compare(pairs).log_odds  # differences of scores of some hundred nats
        assert remote.compare(pairs).log_odds == pytest.approx(expected, rel=1e-6, abs=1e-4)
        assert remote.usage.judged == 0
        rewards = LikelihoodReward(remote)(prompts, answers).rewards
        assert rewards == pytest.approx(model.score(prompts, answers).tolist(), rel=1e-6)


def test_ranking_evaluating_and_scoring_rows(remote: gram.RemoteModel, judge: Any, pairs: list[Pair]) -> None:
    from gram.data import Scorable
    from gram.types import Contest

    answers = [pair.a for pair in pairs[:5]]
    one, other = gram.rank(remote, "why ?", answers), gram.rank(judge, "why ?", answers)
    assert one.order == other.order and one.wins == pytest.approx(other.wins, abs=EXACT)
    items = [Item(f"q{k}", prompt=pair.prompt, responses=(pair.a, pair.b)) for k, pair in enumerate(pairs)]
    records, expected = evaluate(remote, items), evaluate(judge, items)
    for record, right in zip(records, expected, strict=True):
        assert record.log_odds == pytest.approx(right.log_odds, abs=EXACT)
    rows = [Scorable("a", pairs[0]), Scorable("b", Contest("why ?", answers))]
    got, right_rows = score_rows(remote, rows), score_rows(judge, rows)
    assert got[0]["p_a"] == pytest.approx(right_rows[0]["p_a"], abs=EXACT)
    assert got[1]["order"] == right_rows[1]["order"]


def test_trainers_rewards_are_those_of_the_model_here(
    remote: gram.RemoteModel, judge: Any, pairs: list[Pair]
) -> None:
    prompts = [pair.prompt[-1].content for pair in pairs]
    answers, references = [pair.a for pair in pairs], [pair.b or "so" for pair in pairs]
    columns: dict[str, Any] = {"prompts": prompts, "completions": answers, "reference": references}
    expected = ReferenceReward(judge)(prompts, answers, references).rewards
    reward = ReferenceReward(remote)
    assert TrlReward(reward)(**columns) == pytest.approx(expected, abs=EXACT)
    assert asyncio.run(AsyncTrlReward(reward)(**columns)) == pytest.approx(expected, abs=EXACT)
    infos = [{"prompt": prompt} for prompt in prompts]
    verl = VerlReward(reward).compute_scores([""] * len(prompts), answers, references, infos)
    assert [row["score"] for row in verl] == pytest.approx(expected, abs=EXACT)
    queries = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    request = {"query": queries, "prompts": prompts, "labels": references}
    assert OpenRlhfReward(reward).get_reward(request)["rewards"] == pytest.approx(
        OpenRlhfReward(ReferenceReward(judge)).get_reward(request)["rewards"], abs=EXACT
    )
    group = ["why ?"] * 5, answers[:5]
    assert GroupReward(remote)(*group).rewards == pytest.approx(GroupReward(judge)(*group).rewards, abs=EXACT)


@pytest.mark.parametrize("trainer", ["verl", "verl async", "openrlhf"])
def test_one_answer_per_call_becomes_batches(trainer: str) -> None:
    """16 calls at once, all of them at the server at the same time: no lock, no pair by pair.

    The first batch waits until all 16 are there; with a lock only one ever would be.
    """
    worker = Here(Longer())
    with serving(worker) as served:
        reward = ReferenceReward(gram.RemoteModel(served.url))
        verl, openrlhf = VerlReward(reward), OpenRlhfReward(reward)
        worker.gate.clear()

        def one(k: int) -> float:
            if trainer == "openrlhf":
                request = {"query": ["why ?" + "a" * k], "prompts": ["why ?"], "labels": ["b"]}
                return openrlhf.get_reward(request)["rewards"][0]
            score = verl.compute_score("", "a" * k, "b", {"prompt": "why ?"})
            return score["score"]

        async def all_at_once() -> list[float]:
            calls = [verl.compute_score_async("", "a" * k, "b", {"prompt": "why ?"}) for k in range(1, 17)]
            return [row["score"] for row in await asyncio.gather(*calls)]

        def let_through() -> None:
            try:
                until(lambda: sum(map(len, worker.batches)) + served.batcher.waiting == 16)
            finally:
                worker.gate.set()

        opener = threading.Thread(target=let_through)
        opener.start()
        if trainer == "verl async":
            rewards = asyncio.run(all_at_once())
        else:
            rewards = together([partial(one, k) for k in range(1, 17)])
        opener.join()
    assert rewards == [float(k) for k in range(16)]
    assert len(worker.batches) <= 3


def test_a_model_of_this_process_is_asked_by_one_at_a_time() -> None:
    inside, most = 0, 0

    class Watched(Longer):
        def compare(self, pairs: Sequence[Pair]) -> Any:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.005)
            inside -= 1
            return super().compare(pairs)

    verl = VerlReward(ReferenceReward(Watched()))
    together([partial(verl.compute_score, "", "aa", "b", {"prompt": "why ?"})] * 8)
    assert most == 1


def test_from_event_loops_and_in_forks(remote: gram.RemoteModel, pairs: list[Pair]) -> None:
    expected = remote.compare(pairs).log_odds

    async def two() -> Any:
        return await asyncio.gather(remote.acompare(pairs[:10]), remote.acompare(pairs[10:]))

    first, second = asyncio.run(two())
    assert first.log_odds == pytest.approx(expected[:10], abs=EXACT)
    assert second.log_odds == pytest.approx(expected[10:], abs=EXACT)
    again = pickle.loads(pickle.dumps(remote))
    assert again.compare(pairs).log_odds == pytest.approx(expected, abs=EXACT)


class Flaky(BaseHTTPRequestHandler):
    """Answers with what ``answers`` says, one after the other, and then as a server does."""

    answers: ClassVar[list[tuple[int, str]]] = []
    times: ClassVar[list[float]] = []
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        about = {"id": "tiny", "scores": False, "kind": "judge", "dtype": "fp32", "slope": 1.0}
        self.reply(200, {"data": [{**about, "template": ""}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.times.append(time.monotonic())
        self.seen.append(dict(self.headers))
        if self.answers:
            status, detail = self.answers.pop(0)
            self.reply(status, {"detail": detail})
            return
        row = {"log_odds": [1.0, None], "mass": [0.5, None], "tokens_cut": 0, "error": None}
        self.reply(200, {"data": [row], "usage": {"prompt_tokens": 3}})

    def reply(self, status: int, content: Any) -> None:
        import json

        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status in (429, 503):
            self.send_header("Retry-After", "0.1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def flaky() -> Iterator[str]:
    Flaky.answers, Flaky.times, Flaky.seen = [], [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Flaky) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_may_pass_is_tried_again(flaky: str) -> None:
    """429 and 503 are not the end; nobody comes back before the server wants it."""
    model = gram.RemoteModel(flaky, token="the-token-of-the-server")
    Flaky.answers = [(429, "full"), (503, "died"), (502, "proxy")]
    verdicts = model.compare([Pair("why ?", "a", "b")])
    assert verdicts.log_odds[0, 0] == 1.0 and verdicts.p_a[0] == pytest.approx(0.731059, abs=1e-6)
    assert len(Flaky.times) == 4 and Flaky.times[1] - Flaky.times[0] >= 0.1
    assert {headers["Authorization"] for headers in Flaky.seen} == {"Bearer the-token-of-the-server"}
    assert all(0 < float(headers["X-Deadline-Seconds"]) <= 300 for headers in Flaky.seen)


def test_what_does_not_pass_is_told_at_once(flaky: str) -> None:
    model = gram.RemoteModel(flaky)
    Flaky.answers = [(422, "pairs[0].prompt is empty")]
    with pytest.raises(ScoringError, match=r"/v1/compare: 422: pairs\[0\]\.prompt is empty"):
        model.compare([Pair("why ?", "a", "b")])
    assert len(Flaky.times) == 1


def test_no_answer_within_the_deadline(flaky: str) -> None:
    model = gram.RemoteModel(flaky, deadline=0.6)
    Flaky.answers = [(503, "no process has the model")] * 50
    with pytest.raises(ScoringError, match="503: no process has the model"):
        model.compare([Pair("why ?", "a", "b")])
    with pytest.raises(ScoringError, match=r"127\.0\.0\.1:9/v1/models"):
        gram.RemoteModel("http://127.0.0.1:9", deadline=0.3)
    with pytest.raises(ConfigError, match="no address of a server"):
        gram.RemoteModel("runs/judge")


def test_a_pair_without_a_number_is_named() -> None:
    """As the library does; a reward then asks again in halves and loses only that answer."""
    from test_serving_numbers import Picky

    with serving(Here(Picky())) as server:
        remote = gram.RemoteModel(server.url)
        asked = [Pair("why ?", text, "so") for text in ("yes", "music", "because")]
        with pytest.raises(ScoringError, match="no number for pair 1 of this call: the model gave no finite"):
            remote.compare(asked)
        reward = ReferenceReward(remote)
        rewards = reward(["why ?"] * 3, [pair.a for pair in asked], ["so"] * 3).rewards
    assert rewards == [1.0, None, 5.0] and reward.failures.count == 1


def test_the_client_loads_no_torch_and_no_server() -> None:
    code = (
        "import sys, gram.serving.client, gram.rl.trl; "
        "print(sorted({'torch', 'fastapi', 'uvicorn', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

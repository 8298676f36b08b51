"""The shapes of others: what their clients send is read, and what they read is sent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import gram
from gram.types import Pair, Usage, Verdicts, sigmoid
from served import Here, Served, serving

from gram.serving.reference import example_of  # isort: skip - needs what served.py skips without

QUERY = "what is the bread ?"
TEXTS = ["the bread is old .", "music", "the bread of the river is green .", "I do not know ."]


@pytest.fixture(scope="module")
def judge(judge_folder: Path) -> Any:
    return gram.load(judge_folder)


@pytest.fixture(scope="module")
def scalar(scalar_folder: Path) -> Any:
    return gram.load(scalar_folder)


@pytest.fixture(scope="module")
def served_judge(judge_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(judge_folder)), names=("tiny", "runs/tiny")) as server:
        yield server


@pytest.fixture(scope="module")
def served_scalar(scalar_folder: Path) -> Iterator[Served]:
    with serving(Here(gram.load(scalar_folder), "scalar")) as server:
        yield server


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_by_a_judge(served_judge: Served, judge: Any, path: str) -> None:
    """Relevance is the probability of beating an average one of the documents: sigmoid of the strength."""
    content = {"model": "tiny", "query": QUERY, "documents": TEXTS, "top_n": 3, "max_tokens_per_doc": 4096}
    status, answer = served_judge.post(path, content)
    ranking = gram.rank(judge, QUERY, TEXTS)
    assert status == 200
    assert [row["index"] for row in answer["results"]] == ranking.order[:3]
    expected = sigmoid(ranking.strengths)[ranking.order[:3]]
    assert [row["relevance_score"] for row in answer["results"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [row["document"]["text"] for row in answer["results"]] == [TEXTS[k] for k in ranking.order[:3]]
    assert set(answer) == {"id", "model", "results", "usage", "meta"}
    assert set(answer["usage"]) == {"prompt_tokens", "total_tokens"}


def test_rerank_by_a_scalar_model(served_scalar: Served, scalar: Any) -> None:
    """As vLLM does: the logistic function of each score. Documents may be objects, and left out on wish."""
    documents = [{"text": text} for text in TEXTS]
    content = {"query": QUERY, "documents": documents, "return_documents": False}
    _, answer = served_scalar.post("/rerank", content)
    scores = scalar.score([QUERY] * 4, TEXTS)
    order = sorted(range(4), key=lambda k: -scores[k])
    assert [row["index"] for row in answer["results"]] == order
    found = [row["relevance_score"] for row in answer["results"]]
    assert found == pytest.approx(sigmoid(scores)[order].tolist(), abs=4e-6)
    assert [row["document"] for row in answer["results"]] == [None] * 4


def test_rerank_by_a_likelihood(likelihood_folder: Path) -> None:
    """Against the mean of the scores, in log-odds: never all 0, as sigmoids of log-likelihoods would be."""
    model: Any = gram.load(likelihood_folder)
    with serving(Here(model, "likelihood")) as server:
        _, answer = server.post("/rerank", {"query": QUERY, "documents": TEXTS})
    scores = model.slope * model.score([QUERY] * 4, TEXTS)
    expected = sigmoid(scores - scores.mean())
    found = {row["index"]: row["relevance_score"] for row in answer["results"]}
    assert [found[k] for k in range(4)] == pytest.approx(expected.tolist(), abs=1e-5)


class Scorer:
    """Answers are numbers, which are their scores."""

    template = None

    def __init__(self, slope: float = 1.0) -> None:
        self.slope = slope
        self.usage = Usage()

    def tokens_cut(self, pairs: Any) -> None:
        return None

    def score(self, prompts: Any, responses: Any) -> np.ndarray:
        return np.array([float(text) for text in responses])

    def compare(self, pairs: Any) -> Verdicts:
        raise AssertionError("a model that scores is asked for scores")


def reranked(model: Any, kind: str, documents: list[str], **options: Any) -> list[tuple[str, float]]:
    with serving(Here(model, kind)) as server:
        _, answer = server.post("/rerank", {"query": QUERY, "documents": documents, **options})
    return [(documents[row["index"]], row["relevance_score"]) for row in answer["results"]]


@pytest.mark.parametrize(
    ("kind", "documents", "order"),
    [
        ("likelihood", ["-150", "-100", "-300", "-400", "-120"], ["-100", "-120", "-150", "-300", "-400"]),
        ("ensemble", ["-150", "-100", "-300", "-400", "-120"], ["-100", "-120", "-150", "-300", "-400"]),
        ("scalar", ["40", "3", "55", "60", "-800", "-750"], ["60", "55", "40", "3", "-750", "-800"]),
    ],
)
def test_rerank_sorts_what_the_logistic_function_rounds_to_1(
    kind: str, documents: list[str], order: list[str]
) -> None:
    """In doubles it is 1 from 37 on and 0 below -745: such documents are not equal, they look so.

    The mean of the five is -214, so that -150, -100 and -120 are at 64, 114 and 94: all 1.
    """
    found = reranked(Scorer(), kind, documents)
    assert [text for text, _ in found] == order
    assert [x for _, x in found] == sorted((x for _, x in found), reverse=True)
    assert sum(x == 1.0 for _, x in found) == 3
    assert [text for text, _ in reranked(Scorer(), kind, documents, top_n=2)] == order[:2]


def test_the_temperature_of_a_scalar_model_is_not_in_its_relevance() -> None:
    """The logistic function of the score: 1/(1+e^-2) = 0.8808 and 1/(1+e^-1) = 0.7311, as in ``/score``.

    A likelihood is asked for a probability of beating: slope 0.5 and scores 0.5 from their mean: 0.5622.
    """
    assert reranked(Scorer(0.5), "scalar", ["1", "2"]) == [
        ("2", pytest.approx(0.8808, abs=1e-4)),
        ("1", pytest.approx(0.7311, abs=1e-4)),
    ]
    assert reranked(Scorer(0.5), "likelihood", ["1", "2"])[0] == ("2", pytest.approx(0.5622, abs=1e-4))


@pytest.mark.parametrize("names", [("queries", "documents"), ("text_1", "text_2"), ("data_1", "items")])
def test_score(served_scalar: Served, scalar: Any, names: tuple[str, str]) -> None:
    """One question for all answers, or one each; through the logistic function unless told otherwise."""
    scores = scalar.score([QUERY] * 4, TEXTS)
    first, second = names
    status, answer = served_scalar.post("/score", {first: QUERY, second: TEXTS})
    assert status == 200 and answer["object"] == "list"
    assert [row["object"] for row in answer["data"]] == ["score"] * 4
    assert [row["score"] for row in answer["data"]] == pytest.approx(sigmoid(scores).tolist(), abs=4e-6)
    raw = {first: [QUERY] * 4, second: TEXTS, "use_activation": False}
    _, answer = served_scalar.post("/v1/score", raw)
    assert [row["score"] for row in answer["data"]] == pytest.approx(scores.tolist(), abs=4e-6)
    _, answer = served_scalar.post("/score", {first: QUERY, second: TEXTS[0], "use_activation": False})
    assert [row["score"] for row in answer["data"]] == pytest.approx([scores[0]], abs=4e-6)
    status, _ = served_scalar.post("/score", {first: [QUERY] * 3, second: TEXTS})
    assert status == 422


def test_classify(served_scalar: Served, scalar: Any) -> None:
    messages = [{"role": "user", "content": QUERY}, {"role": "assistant", "content": TEXTS[0]}]
    [score] = scalar.score([QUERY], [TEXTS[0]])
    content = {"model": "tiny", "messages": messages, "use_activation": False, "add_special_tokens": False}
    status, answer = served_scalar.post("/classify", content)
    assert status == 200
    [row] = answer["data"]
    assert row["probs"] == [pytest.approx(score, abs=4e-6)] and row["num_classes"] == 1
    _, answer = served_scalar.post("/classify", {"messages": messages})
    assert answer["data"][0]["probs"] == [pytest.approx(1 / (1 + math.exp(-score)), abs=4e-6)]
    for wrong in (
        {},
        {"messages": []},
        {"messages": messages[:1]},
        {"messages": messages[1:]},
    ):
        status, answer = served_scalar.post("/classify", wrong)
        assert status == 422 and answer["detail"][0]["loc"] == ["body", "messages"], wrong


def test_classify_texts(served_scalar: Served, scalar_folder: Path) -> None:
    """As transformers scores the same token ids; a conversation that was put together is as its messages."""
    tokenizer: Any = AutoTokenizer.from_pretrained(scalar_folder)
    stock: Any = AutoModelForSequenceClassification.from_pretrained(scalar_folder)
    messages = [{"role": "user", "content": QUERY}, {"role": "assistant", "content": TEXTS[0]}]
    together = tokenizer.apply_chat_template(messages, tokenize=False)
    texts = [together, "the bread", f"{QUERY} {TEXTS[2]}"]
    expected = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=text != together, return_tensors="pt")["input_ids"]
        expected.append(stock(input_ids=ids).logits[0, 0].item())
    status, answer = served_scalar.post("/classify", {"input": texts, "use_activation": False})
    assert status == 200 and [row["index"] for row in answer["data"]] == [0, 1, 2]
    assert [row["probs"][0] for row in answer["data"]] == pytest.approx(expected, abs=4e-6)
    _, alone = served_scalar.post("/classify", {"input": texts[1]})
    assert alone["data"][0]["probs"] == [pytest.approx(1 / (1 + math.exp(-expected[1])), abs=4e-6)]


def test_a_text_that_cannot_be_classified(served_scalar: Served, served_judge: Served) -> None:
    """One that is too long has no number, and costs no other; a judge cannot take a text apart."""
    long = "the bread " * 3_000
    _, answer = served_scalar.post("/classify", {"input": ["the music", long, "the bread"]})
    first, second, third = answer["data"]
    assert first["error"] is None and first["probs"][0] is not None and third["error"] is None
    assert second["probs"] == [None] and "tokens; the model reads" in second["error"]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    for wrong in (
        {"input": []},
        {"input": ["a", ""]},
        {"input": [1, 2]},
        {"input": "a", "messages": messages},
    ):
        status, answer = served_scalar.post("/classify", wrong)
        assert status == 422 and answer["detail"][0]["loc"][:2] == ["body", "input"], wrong
    status, answer = served_judge.post("/classify", {"input": "a text"})
    assert status == 400 and "send the conversation as messages" in answer["detail"]["message"]


def test_a_judge_gives_a_single_answer_no_score(served_judge: Served) -> None:
    """It says so, and what to ask instead."""
    for path, content in (
        ("/score", {"text_1": QUERY, "text_2": TEXTS}),
        (
            "/classify",
            {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]},
        ),
        ("/v1/reward", {"items": [{"prompt": QUERY, "response": TEXTS[0]}]}),
    ):
        status, answer = served_judge.post(path, content)
        assert status == 400 and "/v1/compare" in answer["detail"]["message"]


def test_an_activation_is_for_scalar_models(likelihood_folder: Path) -> None:
    with serving(Here(gram.load(likelihood_folder), "likelihood")) as server:
        content = {"text_1": QUERY, "text_2": TEXTS}
        status, answer = server.post("/score", content | {"use_activation": True})
        assert status == 400 and "likelihood" in answer["detail"]["message"]
        assert all(row["score"] < 0 for row in server.post("/score", content)[1]["data"])


def test_openrlhf(served_judge: Served, judge: Any) -> None:
    """The label is the reference; what cannot be read is null, with a reason, and counted."""
    answers = ["the bread is old .</s>", " music"]
    request = {
        "query": [QUERY + answer for answer in answers] + ["another text", QUERY + "yes"],
        "prompts": [QUERY] * 4,
        "labels": ["music", ["no", "text"], "music", ""],
    }
    request["labels"][1] = "the bread is old ."
    before = served_judge.metric("gram_failed_units_total")
    status, answer = served_judge.post("/get_reward", request)
    pairs = [Pair(QUERY, "the bread is old .", "music"), Pair(QUERY, " music", "the bread is old .")]
    verdicts = judge.compare(pairs)
    assert status == 200
    assert answer["rewards"][:2] == pytest.approx(verdicts.log_odds.mean(axis=1).tolist(), abs=4e-6)
    assert answer["scores"][:2] == pytest.approx(verdicts.p_a.tolist(), abs=4e-6)
    assert answer["rewards"][2:] == answer["scores"][2:] == [None, None]
    assert answer["extra_logs"]["gram_failed"] == [0, 0, 1, 1]
    gaps = answer["extra_logs"]["gram_position_gap"][:2]
    assert gaps == pytest.approx(verdicts.position_gap.tolist(), abs=4e-6)
    assert "does not hold its prompt" in answer["errors"][2] and "reference answer" in answer["errors"][3]
    assert served_judge.metric("gram_failed_units_total") == before + 2
    _, answer = served_judge.post("/get_reward?neutral=-1.5", request)
    assert answer["rewards"][2:] == [-1.5, -1.5] and answer["scores"][2:] == [0.5, 0.5]
    assert answer["extra_logs"]["gram_failed"] == [0, 0, 1, 1]
    assert served_judge.post("/get_reward", {**request, "labels": ["a"]})[0] == 422


def test_openrlhf_names_the_end_tokens_of_its_model(served_judge: Served) -> None:
    """Those in the address are removed too, however many; the usual ones are removed in any case."""
    answer = "the bread is old ."
    ends = [
        "",
        "<|end_of_text|>",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<my end><stop>",
        "<my end></s>",
    ]
    request = {
        "query": [QUERY + answer + end for end in ends],
        "prompts": [QUERY] * 5,
        "labels": ["music"] * 5,
    }
    plain, *others = served_judge.post("/get_reward", request)[1]["rewards"]
    assert others[:2] == pytest.approx([plain] * 2, abs=4e-6) and abs(others[2] - plain) > 1e-4
    address = "/get_reward?end_token=%3Cmy%20end%3E&end_token=%3Cstop%3E&neutral=0"
    assert served_judge.post(address, request)[1]["rewards"] == pytest.approx([plain] * 5, abs=4e-6)


def test_openrlhf_with_a_model_that_scores(served_scalar: Served, scalar: Any) -> None:
    """No reference is needed; OpenRLHF's older servers get no labels at all."""
    request = {"query": [QUERY + TEXTS[0]], "prompts": [QUERY]}
    _, answer = served_scalar.post("/get_reward", request)
    [score] = scalar.score([QUERY], [TEXTS[0]])
    assert answer["rewards"] == answer["scores"] == [pytest.approx(score, abs=4e-6)]


def test_models_have_names(served_judge: Served) -> None:
    pairs = [{"prompt": QUERY, "a": "a", "b": "b"}]
    for name in ("tiny", "runs/tiny"):
        assert served_judge.post("/v1/compare", {"model": name, "pairs": pairs})[0] == 200
        assert served_judge.get(f"/v1/models/{name}")[1]["id"] == "tiny"
    status, answer = served_judge.post("/v1/compare", {"model": "huge", "pairs": pairs})
    assert status == 400 and answer["detail"]["message"] == "there is no model 'huge' here; there is: tiny"
    assert served_judge.get("/v1/models/huge")[0] == 404


def test_every_example_in_the_openapi_is_answered(served_judge: Served, served_scalar: Served) -> None:
    """And every endpoint with a body has one."""
    _, api = served_judge.get("/openapi.json")
    posts = {path: methods["post"] for path, methods in api["paths"].items() if "post" in methods}
    assert len(posts) == 13
    for path, post in posts.items():
        example = example_of(api, post)
        scores = any(word in path for word in ("score", "classify"))
        status, answer = (served_scalar if scores else served_judge).post(path, example)
        assert status == 200, (path, answer)


def test_coheres_client(served_judge: Served, judge: Any) -> None:
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(api_key="none", base_url=served_judge.url)
    answer = client.rerank(model="tiny", query=QUERY, documents=TEXTS, top_n=2)
    ranking = gram.rank(judge, QUERY, TEXTS)
    assert [result.index for result in answer.results] == ranking.order[:2]
    expected = sigmoid(ranking.strengths)[ranking.order[:2]]
    assert np.allclose([result.relevance_score for result in answer.results], expected, atol=1e-5)


def test_openais_client(served_judge: Served) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="none", base_url=f"{served_judge.url}/v1")
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "gram"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("huge")
    content = {"query": QUERY, "documents": TEXTS}
    answer = client.post("/rerank", body=content, cast_to=dict[str, Any])
    assert len(answer["results"]) == 4

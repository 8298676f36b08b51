"""The page shows what endpoints say, a browser can use it, and nothing else of Gradio is in reach."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gram
from gram.serving.limits import Limits
from gram.types import Usage
from oracles import NumberJudge
from served import Here, Served, serving, until
from test_serving_queue import hang_up

from gram.serving import page_routes, pictures  # isort: skip - these need what served.py skips without
from gram.serving.schemas import PairOut, RankAnswer, usage_of  # isort: skip

load: Any = gram.load  # of kinds that differ in what they can do
PROMPT = "How much?"
ANSWERS = ["1.0", "2.5", "1.5"]
TOKEN = "a token that is long enough"


class Judge(NumberJudge):
    """The larger number is better, and so is the one shown first."""

    temperature = slope = 1.0
    template = None
    usage = Usage()

    def __init__(self) -> None:
        super().__init__(bias=0.7)

    def tokens_cut(self, pairs: Any) -> None:
        return None


@pytest.fixture
def served() -> Iterator[Served]:
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    with serving(Here(Judge()), limits=Limits(max_characters=1_000, max_body_bytes=20_000)) as server:
        yield server


def press(served: Served, button: str, *texts: str, **headers: str) -> tuple[int, Any]:
    """What a click on a button with this id gives."""
    _, config = served.get("/config")
    [number] = [one["id"] for one in config["components"] if one["props"].get("elem_id") == button]
    [event] = [one["id"] for one in config["dependencies"] if one["targets"] == [[number, "click"]]]
    content = {"data": texts, "fn_index": event, "session_hash": "s"}
    return served.post("/gradio_api/run/predict", content, **headers)


def rank(served: Served, *answers: str, prompt: str = PROMPT) -> list[str]:
    """Ranking, matrix and orders, as HTML."""
    status, answer = press(served, "rank", prompt, *answers, *[""] * (8 - len(answers)))
    assert status == 200
    return answer["data"]


# Pictures


def pair(p: float, gap: float = 0.0, **fields: Any) -> PairOut:
    """A verdict with these log-odds."""
    odds: list[float | None] = [p + gap, p - gap]
    values = {"p_a": p, "log_odds": odds, "position_gap": gap, "mass": [1.0, 1.0]}
    return PairOut(index=0, **{**values, "tokens_cut": 0, "error": None, **fields})


def test_the_matrix_has_each_verdict_and_its_complement() -> None:
    html = pictures.matrix(["x", "y", "z"], [(0, 1), (0, 2), (1, 2)], [pair(0.9), pair(0.25), pair(0.5)])
    assert re.findall(r">(\d\.\d\d)<", html) == ["0.90", "0.25", "0.10", "0.50", "0.75", "0.50"]
    assert html.count("<td></td>") == 3  # the diagonal


def test_the_order_that_decides_is_named() -> None:
    """Log-odds (2, -2) say x where it is shown first and y where it is not; (1, 1) say x both times."""
    html = pictures.orders(["x", "y"], [(0, 1)] * 2, [pair(0.0, gap=2.0), pair(1.0, tokens_cut=7)])
    rows = html.split("<tr>")[2:]
    assert "the order decides" in rows[0] and "0.88" in rows[0] and "0.12" in rows[0]
    assert "same in both orders; 7 tokens were cut" in rows[1]
    one = pictures.orders(["x", "y"], [(0, 1)], [pair(1.0, log_odds=[1.0, None], position_gap=None)])
    assert "one order asked" in one


def test_a_verdict_that_is_missing_is_no_number() -> None:
    missing = pair(0.5, p_a=None, log_odds=None, position_gap=None, mass=None, error="too long <b>")
    html = pictures.orders(["x", "y"], [(0, 1)], [missing])
    assert "too long &lt;b&gt;" in html and "0.5" not in html
    assert "0.5" not in pictures.matrix(["x", "y"], [(0, 1)], [missing])


def test_the_mass_of_the_labels_is_told() -> None:
    """Of one pair asked in both orders and one asked once: (0.1 + 0.3 + 0.2) / 3."""
    pairs = [pair(0.5, mass=[0.1, 0.3]), pair(0.5, mass=[0.2, None]), pair(0.5, mass=None)]
    assert "vocabulary: 0.20 on average" in pictures.mass(pairs)
    assert pictures.mass(pairs[2:]) == ""


def test_bars_are_in_order_with_their_intervals() -> None:
    """1.96 standard errors of 0.5 are 0.98; a candidate without an error has no interval."""
    ranking = RankAnswer(
        model="m",
        order=[1, 0],
        best="b",
        strengths=[-1.0, 1.0],
        stderr=[None, 0.5],
        p_best=[None, 0.75],
        wins=[0.2, 0.8],
        comparisons=1,
        ties=0,
        cyclic=None,
        position_gap=None,
        usage=usage_of(0),
    )
    html = pictures.bars(["x", "y"], ranking)
    assert html.index("y: +1.00 ± 0.98") < html.index("x: -1.00<")
    assert html.count("<line") == 1 + 3 and "75%" in html


def test_tokens_are_coloured_by_their_numbers_and_escaped() -> None:
    html = pictures.tokens(["a", "", "<script>", "\n"], [0.0, -1.0, -5.0, -50.0], cut=3)
    alpha = [float(x) for x in re.findall(r"rgba\(213,94,0,([\d.]+)\)", html)]
    assert alpha == [0.0, 0.08, 0.4, 0.8]
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert "log-likelihood -56.00, -14.00 per token" in html and "3 tokens were cut" in html


# Without Gradio


def test_without_gradio_there_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_routes, "find_spec", lambda name: None)
    with serving(Here(Judge()), token=TOKEN) as served:
        status, text = served.get("/")
        assert status == 200 and "pip install 'gram-rm[ui]'" in text
        _, openapi = served.get("/openapi.json")
        for path in re.findall(r"POST +(\S+)", text):
            assert path in openapi["paths"]
        assert served.get("/assets/x")[0] == 404
        served.headers = {}
        assert served.get("/")[0] == 401


# With it, over HTTP


def test_the_page_shows_what_endpoints_say(served: Served) -> None:
    ranking, matrix, orders = rank(served, *ANSWERS)
    asked = served.metric("gram_units_total", source="new")
    _, said = served.post("/v1/rank", {"prompt": PROMPT, "candidates": ANSWERS})
    shown = re.findall(r"<title>answer (\d): ([+-][\d.]+) ± ([\d.]+)<", ranking)
    assert [int(place) - 1 for place, _, _ in shown] == said["order"]
    for place, strength, error in shown:
        assert float(strength) == pytest.approx(said["strengths"][int(place) - 1], abs=0.006)
        assert float(error) == pytest.approx(1.96 * said["stderr"][int(place) - 1], abs=0.006)
    pairs = [{"prompt": PROMPT, "a": ANSWERS[i], "b": ANSWERS[j]} for i, j in ((0, 1), (0, 2), (1, 2))]
    _, said = served.post("/v1/compare", {"pairs": pairs})
    p = [row["p_a"] for row in said["data"]]
    upper = [p[0], p[1], 1 - p[0], p[2], 1 - p[1], 1 - p[2]]
    assert [float(x) for x in re.findall(r">(\d\.\d\d)<", matrix)] == pytest.approx(upper, abs=0.006)
    assert orders.count(" over ") == 3 and orders.count("the order decides") == 1  # 1.0 and 1.5, bias 0.7
    assert asked == served.metric("gram_units_total", source="new") == 3  # one batcher, one memory


def test_empty_boxes_are_left_out_and_keep_their_numbers(served: Served) -> None:
    ranking, matrix, _ = rank(served, "No.", " ", "Because.")
    assert "answer 3" in ranking and "answer 2" not in ranking + matrix
    assert "at least two" in rank(served, "No.")[0]
    assert "answer 8" in rank(served, *"abcdefgh")[1]


def test_limits_and_failures_are_told_in_words(served: Served) -> None:
    """A text over the limit; a pair that the model gives no number costs no other."""
    ranking, matrix, _ = rank(served, "No.", "x" * 1_001)
    assert "at most 1000" in ranking and matrix == ""
    ranking, matrix, orders = rank(served, "1", "bad", "2")
    assert "no verdict on candidates" in ranking and orders.count("cannot read this") == 2
    assert len(re.findall(r">(\d\.\d\d)<", matrix)) == 2


def test_texts_are_shown_as_texts(served: Served) -> None:
    assert "<img" not in "".join(rank(served, "<img src=x>", "No."))


def test_there_is_a_tab_for_each_thing_that_the_model_can_do(
    served: Served, judge_folder: Path, likelihood_folder: Path
) -> None:
    """A judge that only compares; a language model as judge; a likelihood model, which decides nothing."""

    def tabs(served: Served) -> list[str]:
        _, config = served.get("/config")
        return [one["props"]["label"] for one in config["components"] if one["type"] == "tabitem"]

    assert tabs(served) == ["Rank answers"]
    with serving(Here(load(judge_folder))) as other:
        assert tabs(other) == ["Rank answers", "Likelihood of an answer", "Typed questions"]
    with serving(Here(load(likelihood_folder), "likelihood")) as other:
        assert tabs(other) == ["Rank answers", "Likelihood of an answer"]
        orders = rank(other, *ANSWERS)[2]
        assert "no order can matter" in orders and "vocabulary" not in orders
    assert "vocabulary: 1.00" in rank(served, *ANSWERS)[2]


def test_too_large_and_too_late_are_told_in_words() -> None:
    """What the door refuses: of an error's answer Gradio's page would show no words."""
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    here = Here(Judge())
    with serving(here, limits=Limits(max_queue=3, max_body_bytes=2_000)) as served:
        assert "at most 2000 bytes" in rank(served, "x" * 2_001, "y")[0]
        assert "6 comparisons and answers in one request; 3 may wait" in rank(served, *ANSWERS, "y")[0]
        here.gate.clear()
        before = [hang_up(served, {"prompt": "?", "a": "1", "b": "2"})]
        until(lambda: here.batches)
        before.append(hang_up(served, {"prompt": "!", "a": "1", "b": "2"}))
        until(lambda: served.batcher.waiting == 1)
        words, matrix, orders = rank(served, *ANSWERS)
        assert "try again in 1 s" in words and matrix == orders == ""
        _, answer = press(served, "rank", PROMPT, "1", "2", *[""] * 6, X_Deadline_Seconds="0.5")
        assert "no answer within 0.5 s" in answer["data"][0]
        here.gate.set()
        for connection in before:
            connection.close()


def test_the_tokens_of_an_answer(likelihood_folder: Path) -> None:
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    model = load(likelihood_folder)
    expected = model.token_logprobs(PROMPT, ANSWERS[1])
    with serving(Here(load(likelihood_folder), "likelihood")) as served:
        [html] = press(served, "read", PROMPT, ANSWERS[1])[1]["data"]
        assert served.metric("gram_tokens_total") == (model.usage - Usage()).tokens
    assert re.findall(r'title="(-[\d.]+) ', html) == [f"{value:.3f}" for value in expected.values]


def test_typed_questions(judge_folder: Path) -> None:
    """Each type as ``gram.decide`` answers it; what is wrong with a question is told."""
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    state, words, lines = "It broke.", "Which?", ["low", "high"]
    asked: Any = {
        "noul": {"type": "noul", "instructions": words},
        "choice": {"type": "choice", "instructions": words, "criteria": dict.fromkeys(lines)},
        "score": {"type": "score", "instructions": words, "criteria": lines},
    }
    expected = gram.decide(load(judge_folder), state, asked)
    with serving(Here(load(judge_folder))) as served:
        for kind, first in (
            ("noul", expected["noul"].noul),
            ("choice", expected["choice"].probabilities["low"]),
            ("score", expected["score"].probabilities[0]),
        ):
            [html] = press(served, f"ask-{kind}", state, words, "low \n\n high")[1]["data"]
            shown = [float(x) for x in re.findall(r"<td>(\d\.\d\d)<", html)]
            assert shown == pytest.approx([first, 1 - first], abs=0.006)
            assert ("orders" in html) == (kind != "noul")
        [html] = press(served, "ask-choice", state, words, "low")[1]["data"]
        assert "alert" in html and "<table>" not in html


def test_nothing_else_of_gradio_is_in_reach(served: Served) -> None:
    assert served.get("/")[0] == 200
    for path in ("upload", "queue/join", "call/rank", "component_server", "reset", "cancel", "api/predict"):
        assert served.post(f"/gradio_api/{path}", {})[0] == 404, path
    for path in ("info", "file=/etc/passwd", "proxy=http://127.0.0.1/", "queue/data", "startup-events"):
        assert served.get(f"/gradio_api/{path}")[0] == 404, path
    for path in ("/assets/../../../routes.py", "/static/%2e%2e/%2e%2e/x.html", "/assets/x.js", "/login"):
        assert served.get(path)[0] in (403, 404), path
    _, openapi = served.get("/openapi.json")
    assert not [path for path in openapi["paths"] if "gradio" in path or path == "/"]


def test_what_no_page_would_send_is_refused(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    run = "/gradio_api/run/predict"
    secret = "the text of somebody"
    for body in (
        b"{",
        b"[]",
        b"{}",
        *[json.dumps({"data": [secret], "fn_index": event}).encode() for event in range(9)],
        json.dumps({"data": [secret] * 9, "fn_index": 99}).encode(),
        *[json.dumps({"data": [{"x": secret}] * n, "fn_index": 0}).encode() for n in range(1, 12)],
    ):
        assert 400 <= served.post(run, body)[0] < 500
    assert "at most 20000 bytes" in served.post(run, b" " * 20_001)[1]["data"][0]
    assert secret not in "".join(capfd.readouterr())
    assert "answer 1" in rank(served, *ANSWERS)[0]


def test_other_sites_are_told_nothing(served: Served) -> None:
    """No header lets a page of another site read an answer, and none lets this one fetch elsewhere."""
    import urllib.request

    request = urllib.request.Request(served.url, headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        names = {name.lower() for name in answer.headers}
        assert not [name for name in names if name.startswith("access-control")]
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        html = answer.read().decode()
    assert "<script" in html and not re.search(r'<(link|script)[^>]+"(https?:)?//', html)  # nor connect ahead


def test_other_sites_cannot_ask(served: Served) -> None:
    """A page of another site may send no JSON without leave, and nothing else is read: a browser that knows
    the token as a password is of no use to it."""
    pairs = {"pairs": [{"prompt": PROMPT, "a": "1", "b": "2"}]}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path, body in (("/v1/compare", pairs), ("/gradio_api/run/predict", {"data": [], "fn_index": 0})):
            assert served.send(path, json.dumps(body).encode(), {"Content-Type": kind})[0] == 422
    assert served.metric("gram_units_total", source="new") == 0


def test_gradio_asks_no_other_machine_and_leaves_no_file(tmp_path: Path) -> None:
    """From its import on: an interpreter of its own lists each address that is looked up or connected to."""
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["127.0.0.1"]
    assert list(tmp_path.iterdir()) == []


_WATCHED = """
import json, sys
hosts = set()

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        hosts.add(str(arguments[1][0] if isinstance(arguments[1], tuple) else arguments[1]))
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        hosts.add(str(arguments[0]))

sys.addaudithook(watch)
from served import Here, serving
from test_serving_page import ANSWERS, Judge, rank

with serving(Here(Judge())) as served:
    for path in ("/", "/config", "/theme.css", "/docs"):
        assert served.get(path)[0] == 200, path
    assert "answer 1" in rank(served, *ANSWERS)[0]
print(json.dumps(sorted(hosts)))
"""


def test_the_page_is_made_once_though_its_first_visitor_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    made, go, make = [], threading.Event(), page_routes._make

    def slow(service: Any) -> Any:
        made.append(service)
        go.wait(60)
        if len(made) == 1:
            raise OSError("no room")
        return make(service)

    monkeypatch.setattr(page_routes, "_make", slow)
    with serving(Here(Judge())) as served:
        for _ in range(2):
            assert served.get("/", X_Deadline_Seconds="0.3")[0] == 504
        until(lambda: len(made) == 1)
        go.set()
        until(lambda: served.get("/")[0] == 200)  # the one that failed is tried again
        assert served.get("/config")[0] == 200 and len(made) == 2


def test_a_browser_gives_the_token_as_a_password() -> None:
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    with serving(Here(Judge()), token=TOKEN) as served:
        served.headers = {}
        for password, status in (("", 401), (TOKEN + "x", 401), (TOKEN, 200)):
            sent = base64.b64encode(f"me:{password}".encode()).decode()
            assert served.get("/", Authorization=f"Basic {sent}")[0] == status
        assert served.get("/")[0] == 401
        assert press_status(served) == 401


def press_status(served: Served) -> int:
    return served.post("/gradio_api/run/predict", {"data": [], "fn_index": 0})[0]


# In a browser


@pytest.fixture
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_type_click_and_see_the_result(browser: Any, likelihood_folder: Path) -> None:
    pytest.importorskip("gradio", reason="the extra ui is not installed")
    with serving(Here(load(likelihood_folder), "likelihood"), token=TOKEN) as served:
        context = browser.new_context(http_credentials={"username": "", "password": TOKEN})
        page = context.new_page()
        context.set_default_timeout(120_000)
        requests: list[str] = []
        errors: list[str] = []
        context.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served.url)
        page.fill("#prompt textarea", PROMPT)
        page.fill("#answer-1 textarea", "No.")
        page.fill("#answer-2 textarea", "Because of the rain.")
        page.click("#rank")
        page.wait_for_selector("#ranking svg[role=img]")
        assert "answer 2" in page.inner_text("#ranking")
        assert page.locator("#matrix td").count() == 4
        assert "same in both orders" in page.inner_text("#orders")

        page.get_by_role("button", name="A sum").click()  # an example
        page.wait_for_function("document.querySelector('#answer-4 textarea').value == '150'")
        page.wait_for_function("!document.querySelector('#matrix table')")  # it was of other answers
        page.click("#rank")
        page.wait_for_function("document.querySelectorAll('#matrix td').length == 16")

        page.get_by_role("tab", name="Likelihood of an answer").click()
        page.fill("#read-prompt textarea", PROMPT)
        page.fill("#read-answer textarea", "Because <b>of</b> it.")
        page.click("#read")
        page.wait_for_selector("#tokens .gram-token")
        shown = "".join(page.locator("#tokens .gram-token").all_text_contents())
        assert shown.startswith("Because <b>of</b> it.")
        page.fill("#read-answer textarea", "Because.")
        page.wait_for_function("!document.querySelector('#tokens .gram-token')")

        with page.expect_popup() as opened:
            page.get_by_role("link", name="all endpoints").click()
        opened.value.wait_for_selector("text=POST /v1/compare")
        assert len(requests) > 5 and errors == []
        assert [url for url in requests if not url.startswith((served.url, "data:", "blob:"))] == []

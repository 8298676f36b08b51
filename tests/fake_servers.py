"""Servers that answer in the documented shapes, on real ports, with a model that is a formula.

The formula (``distribution``) is what tests compare with: a text, or tokens, to the probabilities of the next
token. What a server leaves out of it, and how it fails, is what each test sets.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Distribution: TypeAlias = dict[str, float]
VOCABULARY = ["A", "B", *(f"w{number}" for number in range(40))]
"""Token number k is the k-th word here."""


def distribution(prompt: object) -> Distribution:
    """Probabilities of all words: A has 0.1 to 0.7 and B 0.05 to 0.25, by the prompt."""
    digest = hashlib.sha256(json.dumps(prompt).encode()).digest()
    first, second = 0.1 + 0.6 * digest[0] / 255, 0.05 + 0.2 * digest[1] / 255
    rest = [2.0**-k for k in range(1, 41)]
    scale = (1 - first - second) / sum(rest)
    return dict(zip(VOCABULARY, [first, second, *(scale * p for p in rest)], strict=True))


def log_odds(prompt: object, model: Callable[[object], Distribution] = distribution) -> float:
    """Of A against B."""
    p = model(prompt)
    return math.log(p["A"]) - math.log(p["B"])


class Fake:
    """A server: what it was asked, what it answers, and how.

    Attributes:
        owner: ``owned_by`` in its list of models.
        most: longest ``top_logprobs`` that it takes.
        model: the formula.
        change: of every answer of 200, before it is sent.
        failures: sent first, one for each request: a status with a body, or seconds to sleep.
        refuses: options that it does not know, and the number it does not take.
        token: that it wants.
        asked: path and body of all requests, without those for the list of models.
        most_at_once: requests that were under way at the same time.
    """

    def __init__(self, owner: str = "openai", most: int = 20) -> None:
        self.owner = owner
        self.most = most
        self.model: Callable[[object], Distribution] = distribution
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.failures: list[tuple[int, Any, dict[str, str]] | float] = []
        self.refuses: dict[str, Any] = {}
        self.token = ""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self.pause = 0.0
        self.url = ""
        self._now = 0
        self._lock = threading.Lock()

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body in self.asked if at == path]

    def reply(self, path: str, body: dict[str, Any], headers: Any) -> tuple[int, Any, dict[str, str]]:
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            given = headers.get("Authorization", "").removeprefix("Bearer ")
            return 401, {"error": {"message": f"Incorrect API key provided: {given}"}}, {}
        if path == "/v1/models":
            model = {"id": "judge", "object": "model", "owned_by": self.owner, "max_model_len": 4000}
            return 200, {"object": "list", "data": [model]}, {}
        with self._lock:
            self.asked.append((path, body))
            self.times.append(time.monotonic())
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            failure = self.failures.pop(0) if self.failures else None
        try:
            time.sleep(self.pause)
            if isinstance(failure, tuple):
                return failure
            time.sleep(failure or 0.0)
            for option, value in self.refuses.items():
                if option in body and (value is None or body[option] > value):
                    return 400, {"error": {"message": f"Unsupported parameter: '{option}'"}}, {}
            return 200, self.change(self._answer(path, body)), {}
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        match path:
            case "/v1/chat/completions":
                assert body["logprobs"] is True
                prompt = body["messages"][-1]["content"]
                return {"choices": [self._chat(self.model(prompt), body)], "usage": usage}
            case "/v1/completions":
                return {"choices": [self._completion(body)], "usage": usage}
            case "/tokenize":
                turn = body["messages"][-1] if "messages" in body else {"content": body["prompt"]}
                text = turn["content"] + "".join(map(json.dumps, turn.get("tool_calls", [])))
                tokens = [VOCABULARY.index(text)] if text in VOCABULARY else [ord(c) + 1000 for c in text]
                return {"tokens": tokens, "count": len(tokens), "max_model_len": 4000}
            case "/generative_scoring":
                [item] = body["items"]
                p = self._of_ids([*body["query"], *item])
                assert body["apply_softmax"] is False
                score = p[VOCABULARY[body["label_token_ids"][0]]]
                return {
                    "object": "list",
                    "data": [{"index": 0, "object": "score", "score": score}],
                    "usage": usage,
                }
            case "/v1/score":
                [item] = body["items"]
                p = self._of_ids([*body["query"], *item])
                scores = [[p[VOCABULARY[token]] for token in body["label_token_ids"]]]
                return {"object": "scoring", "model": "judge", "scores": scores, "usage": usage}
            case "/v1/systemone":
                [(name, question)] = body["questions"].items()
                p = self.model(body["state"])
                told = {option: p[option] / (p["A"] + p["B"]) for option in question["criteria"]}
                answer = {"type": "choice", "choice": max(told, key=lambda k: told[k]), "probabilities": told}
                return {"answers": {name: answer}, "usage": {"input_tokens": 100, "output_tokens": 0}}
            case "/classify":
                assert body["use_activation"] is False and body["messages"][-1]["role"] == "assistant"
                reward = reward_of(*(turn["content"] for turn in body["messages"][-2:]))
                entry = {"index": 0, "label": "LABEL_0", "probs": [reward], "num_classes": 1}
                return {"data": [entry], "usage": usage}
            case "/score":
                reward = reward_of(body["text_1"], body["text_2"])
                return {"data": [{"index": 0, "object": "score", "score": reward}], "usage": usage}
        raise AssertionError(path)

    def _of_ids(self, ids: list[int]) -> Distribution:
        """The formula of the text that ``/tokenize`` made these tokens of, or of the tokens."""
        is_text = all(token >= 1000 for token in ids)
        return self.model("".join(chr(token - 1000) for token in ids) if is_text else ids)

    def _chat(self, p: Distribution, body: dict[str, Any]) -> dict[str, Any]:
        most = min(body.get("top_logprobs", 0), self.most)
        names = sorted(p, key=lambda word: -p[word])[:most]
        if "logprob_token_ids" in body and self.owner == "vllm":
            names = [VOCABULARY[token] for token in body["logprob_token_ids"]]
        as_ids = body.get("return_tokens_as_token_ids", False)
        listed = [
            {
                "token": f"token_id:{VOCABULARY.index(w)}" if as_ids else w,
                "logprob": math.log(p[w]),
                "bytes": None,
            }
            for w in names
        ]
        drawn = {
            "token": "token_id:7" if as_ids else "w5",
            "logprob": math.log(p["w5"]),
            "bytes": None,
            "top_logprobs": listed,
        }
        return {
            "index": 0,
            "message": {"role": "assistant", "content": "w5"},
            "logprobs": {"content": [drawn]},
        }

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        if body.get("echo"):
            before, last = prompt[:-1], prompt[-1]
            label = last if isinstance(last, str) else VOCABULARY[last]
            value = math.log(self.model(before)[label])
            words = list(before) if isinstance(before, str) else [f"token_id:{token}" for token in before]
            logprobs = {
                "tokens": [*words, label, "w5"],
                "token_logprobs": [None, *[-1.0] * (len(words) - 1), value, -3.0],
                "text_offset": [*range(len(words)), len(words), len(words) + 1],
                "top_logprobs": None,
            }
            return {"text": "", "logprobs": logprobs}
        p = self.model(prompt)
        names = sorted(p, key=lambda word: -p[word])[: min(body["logprobs"], self.most)]
        as_ids = body.get("return_tokens_as_token_ids", False)
        top = {f"token_id:{VOCABULARY.index(w)}" if as_ids else w: math.log(p[w]) for w in names}
        drawn = {
            "tokens": ["token_id:7" if as_ids else "w5"],
            "token_logprobs": [math.log(p["w5"])],
            "text_offset": [0],
        }
        return {"text": "w5", "logprobs": drawn | {"top_logprobs": [top]}}


def reward_of(prompt: str, response: str) -> float:
    """-3 to 3 by prompt and answer."""
    return hashlib.sha256(f"{prompt}|{response}".encode()).digest()[0] / 42.5 - 3


@contextmanager
def running(fake: Fake) -> Iterator[Fake]:
    """``fake`` on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond({})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if len(content) == int(self.headers["Content-Length"]):  # else the caller has gone
                self._respond(json.loads(content))

        def _respond(self, body: dict[str, Any]) -> None:
            status, content, headers = fake.reply(self.path, body, self.headers)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:  # the caller has gone
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        yield fake
        server.shutdown()

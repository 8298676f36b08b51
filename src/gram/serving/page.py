"""The page for people: what stands on it, and which questions it asks the server when a button is clicked.

It asks what endpoints ask and shows their answers as pictures. Knows Gradio (extra ``ui``); knows no model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import gradio as gr
from fastapi import FastAPI, HTTPException

from gram.decisions import NoulAnswer, ScoreAnswer
from gram.decisions.wire import systemone_request
from gram.errors import GramError
from gram.serving import pictures
from gram.serving.door import tell
from gram.serving.own import compared, ranked
from gram.serving.panel import Panel
from gram.serving.schemas import CompareRequest, PairIn, RankRequest
from gram.serving.service import Service
from gram.serving.units import Reading

MOST = 8
"""Answers that the page has room for."""

_SHOWN = 4  # of these, the ones that are not folded away

_RANKED = {
    "A fact": (
        "What is the capital of France?",
        "The capital of France is Paris.",
        "I am not sure, it might be Lyon.",
        "Paris is the capital of France. It lies on the Seine and has about two million inhabitants.",
    ),
    "A request": (
        "Write one polite sentence that asks a neighbour to turn the music down.",
        "Turn it down, now!",
        "Would you mind turning the music down a little? Thank you very much!",
    ),
    "A sum": (
        "How many minutes are two and a half hours?",
        "2.5 hours are 2.5 x 60 = 150 minutes.",
        "It is 120 minutes.",
        "That depends.",
        "150",
    ),
}
_READ = {
    "Expected": ("What is the capital of France?", "The capital of France is Paris."),
    "Unexpected": ("What is the capital of France?", "The capital of France is banana."),
}

_STATE = "I was charged twice for one order, and nobody answers the phone."
_ASKED = {
    "A refund": (_STATE, "Does the customer ask for money back?"),
    "A tone": (_STATE, "How does the customer sound?", "calm\nangry\namused"),
    "A level": (_STATE, "How urgent is it?", "low\nsome\nhigh"),
}

_CSS = """
.answer table {border-collapse: collapse; width: auto}
.answer td, .answer th {padding: 4px 10px; font-weight: normal; border: 1px solid #C4C7CC}
"""


class Page(NamedTuple):
    """The page.

    Attributes:
        app: Gradio's application, which serves it at ``/``.
        boxes: how many texts each event sends.
    """

    app: FastAPI
    boxes: Mapping[int, int]


def make_page(service: Service) -> Page:
    """The page of a server; nothing in it comes from another machine."""
    fonts = ["system-ui", "sans-serif"]  # of the reader's machine
    blocks = _blocks(service)
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=_CSS,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )
    asked = {number: event for number, event in blocks.fns.items() if event.fn is not None}
    return Page(app, {number: len(event.inputs) for number, event in asked.items()})


def _blocks(service: Service) -> gr.Blocks:
    """A tab for each thing that the model can do."""
    asking = _Asking(service)
    facts = service.batcher.facts
    title = f"gram serve: {service.name}"
    with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(f"# {service.name}\n{facts.kind} model, {facts.dtype}; [all endpoints](/docs)")
        with gr.Tab("Rank answers"), gr.Row():
            _rank_tab(asking)
        if facts.reads:
            with gr.Tab("Likelihood of an answer"), gr.Row():
                _read_tab(asking)
        if facts.decides:
            with gr.Tab("Typed questions"), gr.Row():
                _question_tab(asking)
    return blocks


def _rank_tab(asking: _Asking) -> None:
    with gr.Column():
        prompt = gr.Textbox("", label="Prompt", lines=2, elem_id="prompt")
        boxes = [_answer_box(number) for number in range(1, _SHOWN + 1)]
        with gr.Accordion("More answers", open=False, elem_id="more"):
            boxes += [_answer_box(number) for number in range(_SHOWN + 1, MOST + 1)]
        inputs = [prompt, *boxes]
        button = gr.Button("Rank", variant="primary", elem_id="rank")
        _examples(_RANKED, inputs)
    with gr.Column():
        outputs = [
            _picture("Ranking", "ranking"),
            _picture("Who beats whom", "matrix"),
            _picture("Does the order decide?", "orders"),
        ]
    _on_click(button, asking.rank, inputs, outputs)
    _on_change(inputs, outputs)


def _read_tab(asking: _Asking) -> None:
    with gr.Column():
        prompt = gr.Textbox("", label="Prompt", lines=2, elem_id="read-prompt")
        answer = gr.Textbox("", label="Answer", lines=3, elem_id="read-answer")
        inputs = [prompt, answer]
        button = gr.Button("Read", variant="primary", elem_id="read")
        _examples(_READ, inputs)
    with gr.Column():
        outputs = [_picture("How likely is each token?", "tokens")]
    _on_click(button, asking.read, inputs, outputs)
    _on_change(inputs, outputs)


def _question_tab(asking: _Asking) -> None:
    with gr.Column():
        state = gr.Textbox("", label="State", lines=3, elem_id="state")
        question = gr.Textbox("", label="Question", lines=2, elem_id="question")
        words = "Options, or levels from the lowest; one a line"
        options = gr.Textbox("", label=words, lines=3, elem_id="options")
        inputs = [state, question, options]
        with gr.Row():
            buttons = {
                kind: gr.Button(words, variant="primary", elem_id=f"ask-{kind}")
                for kind, words in (("noul", "Yes or no?"), ("choice", "Which?"), ("score", "Which level?"))
            }
        _examples(_ASKED, inputs)
    with gr.Column():
        outputs = [_picture("How likely is each answer?", "decided")]
    for kind, button in buttons.items():
        _on_click(button, asking.question(kind), inputs, outputs)
    _on_change(inputs, outputs)


def _picture(title: str, elem_id: str) -> gr.HTML:
    gr.Markdown(f"### {title}")
    return gr.HTML("", elem_id=elem_id, elem_classes="answer")


def _answer_box(number: int) -> gr.Textbox:
    return gr.Textbox("", label=f"Answer {number}", lines=2, elem_id=f"answer-{number}")


def _on_click(button: gr.Button, ask: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """Without Gradio's queue: the server has one, and a plain request leaves it when its caller hangs up."""
    button.click(ask, inputs, outputs, queue=False, api_visibility="private", show_progress="minimal")


def _on_change(inputs: list[Any], outputs: list[Any]) -> None:
    """Take down pictures that are of other texts than those in the boxes, without asking the server."""
    empty = json.dumps([""] * len(outputs) if len(outputs) > 1 else "")
    gr.on([box.change for box in inputs], None, None, outputs, js=f"() => {empty}", show_progress="hidden")


def _examples(named: Mapping[str, Sequence[str]], inputs: list[Any]) -> None:
    """Buttons that fill the boxes, without asking the server."""
    gr.Markdown("Examples")
    with gr.Row():
        for name, texts in named.items():
            filled = json.dumps([*texts, *[""] * (len(inputs) - len(texts))])
            gr.Button(name, size="sm").click(None, None, inputs, js=f"() => {filled}")


class _Asking:
    """What buttons do. Each gives as many pieces of HTML as its tab shows."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def rank(self, request: gr.Request, prompt: str, *texts: str) -> tuple[str, ...]:
        """Ranking, matrix and both orders of the answers that are not empty."""
        return await _shown(self._rank(self._panel(request), prompt, texts), 3)

    async def read(self, request: gr.Request, prompt: str, answer: str) -> str:
        """The tokens of an answer."""
        return (await _shown(self._read(self._panel(request), prompt, answer), 1))[0]

    def question(self, kind: str) -> Callable[..., Awaitable[str]]:
        """What the button for one type of question does: the probabilities of its answers."""

        async def ask(request: gr.Request, state: str, question: str, options: str | None) -> str:
            asked: dict[str, Any] = {"type": kind, "instructions": question}
            lines = [line.strip() for line in (options or "").splitlines() if line.strip()]
            if kind != "noul":
                asked["criteria"] = dict.fromkeys(lines) if kind == "choice" else lines
            return (await _shown(self._decide(self._panel(request), state, asked), 1))[0]

        return ask

    def _panel(self, request: gr.Request) -> Panel:
        assert request.request is not None  # it came over HTTP
        return self._service.panel(request.request, None)

    async def _rank(self, panel: Panel, prompt: str, texts: tuple[str, ...]) -> tuple[str, ...]:
        answers = {f"answer {number}": text for number, text in enumerate(texts, 1) if text and text.strip()}
        if len(answers) < 2:
            return pictures.problem("Write at least two answers."), "", ""
        names, candidates = list(answers), list(answers.values())
        places = list(combinations(range(len(names)), 2))
        pairs = [PairIn(prompt=prompt, a=candidates[i], b=candidates[j]) for i, j in places]
        verdicts = (await compared(self._service, panel, CompareRequest(pairs=pairs))).data
        try:  # of verdicts that are remembered; without one of them there is no ranking, but there are others
            asked = RankRequest.model_validate({"prompt": prompt, "candidates": candidates})
            ranking = pictures.bars(names, await ranked(self._service, panel, asked))
        except GramError as error:
            ranking = pictures.problem(str(error))
        orders = pictures.orders(names, places, verdicts)
        if panel.facts.scores:
            orders += pictures.note("This model scores each answer by itself: no order can matter to it.")
        else:
            orders += pictures.mass(verdicts)
        return ranking, pictures.matrix(names, places, verdicts), orders

    async def _read(self, panel: Panel, prompt: str, answer: str) -> tuple[str, ...]:
        reading = Reading(self._service.chat(prompt, "prompt"), self._service.text(answer, "answer"))
        outcome = await panel.read(reading)
        if outcome.values is None:
            return (pictures.problem(outcome.error),)
        return (pictures.tokens(outcome.texts, outcome.values, outcome.cut),)

    async def _decide(self, panel: Panel, state: str, asked: dict[str, Any]) -> tuple[str, ...]:
        wanted = systemone_request({"state": state, "questions": {"it": asked}}, self._service.orders)
        self._service.check_state(wanted.state)
        answer = (await panel.decide(wanted)).decisions["it"]
        if isinstance(answer, NoulAnswer):
            return (pictures.decision({"yes": answer.noul, "no": 1 - answer.noul}, answer.mass),)
        if isinstance(answer, ScoreAnswer):
            named = dict(zip(asked["criteria"], answer.probabilities, strict=True))
            return (pictures.decision(named, answer.mass, answer.spread, answer.score),)
        return (pictures.decision(answer.probabilities, answer.mass, answer.spread),)


async def _shown(work: Awaitable[tuple[str, ...]], count: int) -> tuple[str, ...]:
    """What ``work`` gives, or why it gives nothing: Gradio would log an error with what was sent."""
    try:
        return await work
    except GramError as error:
        words = str(error)
    except HTTPException as error:
        words = str(error.detail)
    except asyncio.CancelledError:  # out of time, or the reader left; its units have left the queue
        words = "The question was taken back."
    except Exception as error:
        tell(error)
        words = "The server made a mistake; its log says where."
    return pictures.problem(words), *[""] * (count - 1)

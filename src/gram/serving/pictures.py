"""Answers of the server as pictures: HTML and SVG that need nothing from anywhere, with every text escaped.

Knows what endpoints answer; knows no model, no request and no Gradio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from gram.serving.schemas import PairOut, RankAnswer

_Z = 1.96  # standard errors to each side of a 95% interval
_WIDTH, _ROW, _LEFT, _RIGHT = 640, 34, 84, 84  # pixels
_BAR, _INK, _FAINT = "#0072B2", "currentColor", "#70757A"
_GAP = 0.2  # of P(a) between the two orders, from which a comparison is marked
_UNLIKELY = -10.0  # log-probability of a token that is coloured in full: 1 in 22,000
_FULL = 0.8  # of a colour, so that the text on it can be read


def bars(names: Sequence[str], ranking: RankAnswer) -> str:
    """The candidates, best first: strengths as bars from 0, an average candidate, with 95% intervals."""
    ends = [abs(x) + _Z * (ranking.stderr[k] or 0.0) for k, x in enumerate(ranking.strengths)]
    most = max([*ends, 0.1])
    half = (_WIDTH - _LEFT - _RIGHT) / 2
    zero = _LEFT + half

    def x(value: float) -> str:
        return f"{zero + half * value / most:.1f}"

    rows = []
    for row, place in enumerate(ranking.order):
        strength, error, p = ranking.strengths[place], ranking.stderr[place], ranking.p_best[place]
        middle = row * _ROW + _ROW / 2
        left, width = min(float(x(strength)), zero), abs(float(x(strength)) - zero)
        interval = "" if error is None else f" ± {_Z * error:.2f}"
        best = "" if p is None else f"{p:.0%}"
        rows.append(
            f"<g><title>{escape(names[place])}: {strength:+.2f}{interval}</title>"
            f'<text x="0" y="{middle + 5}" fill="{_INK}">{escape(names[place])}</text>'
            f'<rect x="{left:.1f}" y="{middle - 9}" width="{width:.1f}" height="18" fill="{_BAR}"/>'
            + ("" if error is None else _line(x(strength - _Z * error), x(strength + _Z * error), middle))
            + f'<text x="{_WIDTH}" y="{middle + 5}" text-anchor="end" fill="{_INK}">{best}</text></g>'
        )
    height = _ROW * len(ranking.order)
    axis = f'<line x1="{zero}" x2="{zero}" y1="0" y2="{height}" stroke="{_FAINT}"/>'
    words = (
        "Bars: Bradley-Terry strengths in natural-log odds against an average answer, with 95% intervals. "
        "At the right: probability of being the best."
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" style="width:100%;max-width:{_WIDTH}px" font-size="14" '
        f'role="img" aria-label="ranking">{axis}{"".join(rows)}</svg>{note(words)}'
        + note(
            f"{ranking.comparisons} comparisons, {ranking.ties} not decided; cyclic triples: "
            f"{_percent(ranking.cyclic)}; mean position gap: {_signed(ranking.position_gap)}"
        )
    )


def _line(left: str, right: str, middle: float) -> str:
    ends = "".join(
        f'<line x1="{end}" x2="{end}" y1="{middle - 5}" y2="{middle + 5}" stroke="{_INK}" stroke-width="2"/>'
        for end in (left, right)
    )
    line = f'<line x1="{left}" x2="{right}" y1="{middle}" y2="{middle}" stroke="{_INK}" stroke-width="2"/>'
    return line + ends


def matrix(names: Sequence[str], places: Sequence[tuple[int, int]], pairs: Sequence[PairOut]) -> str:
    """The n x n matrix of P(row beats column) as a heat map.

    Args:
        names: of the n answers.
        places: of each pair, the two answers.
        pairs: their verdicts.
    """
    p = {place: pair.p_a for place, pair in zip(places, pairs, strict=True)}
    p |= {(j, i): None if value is None else 1 - value for (i, j), value in p.items()}
    head = "<th></th>" + "".join(f"<th>{escape(title)}</th>" for title in names)
    columns = range(len(names))
    rows = [
        f"<tr><th>{escape(title)}</th>{''.join(_cell(p.get((row, column))) for column in columns)}</tr>"
        for row, title in enumerate(names)
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>" + note(
        "Probability that the answer of the row beats that of the column, both orders averaged."
    )


def _cell(p: float | None) -> str:
    if p is None:
        return "<td></td>"
    colour = "0,114,178" if p >= 0.5 else "213,94,0"
    strong = _FULL * abs(2 * p - 1)
    return f'<td style="background:rgba({colour},{strong:.2f})">{p:.2f}</td>'


def orders(names: Sequence[str], places: Sequence[tuple[int, int]], pairs: Sequence[PairOut]) -> str:
    """Every comparison in both orders: does the verdict depend on which answer was shown first?"""
    rows = []
    for (i, j), pair in zip(places, pairs, strict=True):
        title = f"<td>{escape(names[i])} over {escape(names[j])}</td>"
        if pair.log_odds is None:
            rows.append(f'<tr>{title}<td colspan="4">{escape(pair.error or "no number")}</td></tr>')
            continue
        first, second = (None if odds is None else _probability(odds) for odds in pair.log_odds)
        rows.append(
            f"<tr>{title}<td>{_fixed(first)}</td><td>{_fixed(second)}</td>"
            f"<td>{_signed(pair.position_gap)}</td><td>{_finding(first, second, pair)}</td></tr>"
        )
    head = "<tr><th></th><th>shown first</th><th>shown second</th><th>gap</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>" + note(
        "Probability that the answer named first is better, where it was shown first and where second."
    )


def _finding(first: float | None, second: float | None, pair: PairOut) -> str:
    cut = f"; {pair.tokens_cut} tokens were cut" if pair.tokens_cut else ""
    if first is None or second is None:
        return f"one order asked{cut}"
    if (first - 0.5) * (second - 0.5) < 0:
        return f"<b>the order decides</b>{cut}"
    return ("depends on the order" if abs(first - second) >= _GAP else "same in both orders") + cut


def mass(pairs: Sequence[PairOut]) -> str:
    """How much of what the model would say are the two labels."""
    known = [value for pair in pairs for value in pair.mass or () if value is not None]
    if not known:
        return ""
    return note(
        f"Probability of the two labels out of the whole vocabulary: {sum(known) / len(known):.2f} on "
        "average. Where it is small, the model would say something else, and its verdicts mean little."
    )


def tokens(texts: Sequence[str], values: Sequence[float], cut: int) -> str:
    """The tokens of an answer, the redder the less likely, each with its number."""
    marks = []
    for text, value in zip(texts, values, strict=True):
        share = _FULL * min(1.0, max(0.0, value / _UNLIKELY))
        shown = escape(text).replace("\n", "↵\n") or "·"
        marks.append(
            f'<span class="gram-token" title="{value:.3f} ({math.exp(value):.1%})" '
            f'style="background:rgba(213,94,0,{share:.2f});white-space:pre-wrap">{shown}</span>'
        )
    total = sum(values)
    words = f"{len(values)} tokens, log-likelihood {total:.2f}, {total / max(1, len(values)):.2f} per token"
    losses = f"; {cut} tokens were cut to fit the model" if cut else ""
    return f'<p style="line-height:2">{"".join(marks)}</p>' + note(
        f"{words} (natural logarithm){losses}. White: certain; red: at most 1 in 22,000. Point at a token "
        "for its number."
    )


def decision(
    named: Mapping[str, float], mass: float, spread: float | None = None, score: float | None = None
) -> str:
    """The answers to a typed question with their probabilities.

    Args:
        mass, spread, score: as of ``gram.decisions``.
    """
    rows = [
        f"<tr><td>{escape(title)}</td><td>{p:.2f}</td><td>"
        f'<div style="background:{_BAR};height:14px;width:{200 * p:.0f}px"></div></td></tr>'
        for title, p in named.items()
    ]
    words = [f"Probability of the labels out of the whole vocabulary: {mass:.2f}"]
    if score is not None:
        words.append(f"expected level, counted from 0: {score:.2f}")
    if spread is not None:
        words.append(f"largest difference between orders of the options: {spread:.2f}")
    return f"<table>{''.join(rows)}</table>" + note("; ".join(words))


def note(words: str) -> str:
    """A remark below a picture, or in its place."""
    return f'<p style="color:{_FAINT};font-size:0.9em">{escape(words)}</p>'


def problem(words: str) -> str:
    """Why there is no picture."""
    return f'<p role="alert" style="color:#B3261E">{escape(words)}</p>'


def _probability(log_odds: float) -> float:
    return 0.5 * (1 + math.tanh(log_odds / 2))


def _fixed(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"

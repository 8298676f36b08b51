"""Pictures: what is drawn is what was given, and drawing leaves matplotlib as it was."""

from __future__ import annotations

import base64
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gram.evaluation import Estimate

pytest.importorskip("matplotlib")

from gram import plots


def estimate(value: float, half: float = 0.05) -> Estimate:
    return Estimate(value, value - half, value + half, 100)


ROWS = {
    "gram": {"seen": estimate(0.9), "unseen": estimate(0.8)},
    "random": {"unseen": estimate(0.5)},
}


def axes() -> Any:
    """Axes without their types: what they hold is known to the tests only."""
    return plots.canvas()[1]


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(("name", "begins"), [("x.png", b"\x89PNG"), ("x.svg", b"<?xml"), ("x.pdf", b"%PDF")])
def test_a_picture_has_the_format_of_its_name(name: str, begins: bytes, tmp_path: Path) -> None:
    figure, _ = plots.canvas(2, 2)
    for place in (tmp_path / name, tmp_path / "again" / name):
        plots.save(figure, place)
    assert (tmp_path / name).read_bytes().startswith(begins)
    if not name.endswith("svg"):  # which numbers its parts at random
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_bars_show_values_intervals_and_chance() -> None:
    ax = axes()
    plots.accuracy_bars(ax, ROWS, title="Accuracy")
    # Series by series: seen, then unseen.
    assert [bar.get_width() for bar in ax.patches] == [0.9, 0.8, 0.5]
    assert texts(ax) == ["0.90", "0.80", "0.50"]
    order = [ROWS["gram"]["seen"], ROWS["gram"]["unseen"], ROWS["random"]["unseen"]]
    drawn = [tuple(line.get_xdata()) for line in ax.lines]
    assert drawn[:3] == [pytest.approx((e.low, e.high)) for e in order]
    assert drawn[3] == (0.5, 0.5)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["gram", "random"]
    legend = ax.get_legend()
    assert legend is not None
    assert [label.get_text() for label in legend.get_texts()] == ["seen", "unseen", "chance"]
    assert ax.get_title(loc="left") == "Accuracy"
    # The bars of a group stand beside each other and clear of the next group.
    spans = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_curves_hold_their_points_and_a_place_for_no_labels() -> None:
    x = [0, 10, 100]
    ax = axes()
    plots.curve(ax, x, {"gram": [estimate(v) for v in (0.5, 0.7, 0.9)], "none": [estimate(0.5)] * 3})
    assert list(ax.lines[0].get_xdata()) == x
    assert list(ax.lines[0].get_ydata()) == [0.5, 0.7, 0.9]
    assert len(ax.collections) == 2
    assert "0.90 gram" in texts(ax)
    assert "0.50 none" in texts(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "10", "100"]
    places = ax.transData.transform([(value, 0.5) for value in x])[:, 0]
    assert np.all(np.diff(places) > 30)


def test_names_at_the_ends_keep_apart() -> None:
    ax = axes()
    plots.best_of_n_curve(ax, [1, 2, 4], {f"m{k}": [estimate(0.5 + k / 1000)] * 3 for k in range(4)})
    heights = sorted(ax.transData.transform(text.xy)[1] for text in ax.texts)
    assert np.all(np.diff(heights) > 10)


def test_reliability_diagram_by_hand() -> None:
    """Confidences 0.91 0.91 0.61 0.61, each right half of the time: points (0.61, 0.5), (0.91, 0.5)."""
    ax = axes()
    plots.reliability_diagram(ax, np.array([0.91, 0.09, 0.61, 0.39]), np.ones(4))
    points = [tuple(point) for c in ax.collections for point in c.get_offsets() if len(c.get_offsets()) == 2]
    assert points == [pytest.approx((0.61, 0.5)), pytest.approx((0.91, 0.5))]
    assert any("ECE 0.260" in text for text in texts(ax))
    low, _ = ax.get_ylim()
    assert low < 0.1


@pytest.mark.parametrize("name", ["cost_$5_$6", "a$\\x$", "$", "$$", "\\$1 or $2", "100 % _ ^ \\frac{"])
def test_names_are_shown_as_they_stand(name: str) -> None:
    """Between two ``$`` matplotlib reads a formula, which a file's name is not: it fails, or shows another.

    What is shown is what ``Text`` makes of its string when drawn: the text, and whether it is a formula.
    """
    bars, lines, dots = axes(), axes(), axes()
    plots.accuracy_bars(bars, {name: {name: estimate(0.5)}}, title=name)
    plots.curve(lines, [1, 2], {name: [estimate(0.5)] * 2}, xlabel=name, ylabel=name, title=name)
    plots.reliability_diagram(dots, np.array([0.6, 0.9]), np.array([1.0, 0.0]), title=name)
    labels = [
        *bars.get_yticklabels(),
        *bars.get_legend().get_texts()[:1],
        lines.xaxis.label,
        lines.yaxis.label,
    ]
    labels += [ax._left_title for ax in (bars, lines, dots)]
    for label in labels:
        assert label._preprocess_math(label.get_text()) == (name, False)
    [end] = [text for text in lines.texts if text.get_text() != "chance"]
    assert end._preprocess_math(end.get_text()) == (f"0.50 {name}", False)
    for ax in (bars, lines, dots):
        assert plots.to_data_uri(ax.figure, dpi=40)


def test_a_picture_in_a_page() -> None:
    uris = []
    for _ in range(2):
        figure, ax = plots.canvas(3, 2)
        plots.accuracy_bars(ax, ROWS)
        uris.append(plots.to_data_uri(figure, dpi=50))
    head, data = uris[0].split(",")
    assert head == "data:image/png;base64"
    png = base64.b64decode(data)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (150, 100)
    assert uris[0] == uris[1]


def test_missing_values_do_not_stop_a_picture() -> None:
    figure, ax = plots.canvas(3, 2)
    plots.accuracy_bars(ax, {"gram": {"seen": Estimate(math.nan, 0.0, 1.0, 0)}})
    plots.to_data_uri(figure, dpi=50)


def test_the_module_is_light_and_touches_no_global_state() -> None:
    code = """
import sys
import gram.plots, gram.ranking, gram.files
assert not {"torch", "matplotlib", "datasets", "transformers"} & set(sys.modules)
import matplotlib
before = matplotlib.rcParams.copy()
from gram.evaluation import Estimate
figure, ax = gram.plots.canvas()
gram.plots.curve(ax, [1, 2], {"m": [Estimate(0.5, 0.4, 0.6, 9)] * 2})
gram.plots.to_data_uri(figure)
assert matplotlib.rcParams.copy() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

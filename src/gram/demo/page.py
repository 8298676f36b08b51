"""The report of the demonstration: one self-contained HTML page with its pictures inside.

Knows a story's numbers; trains and measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from gram import plots
from gram.demo.lab import Recipe
from gram.demo.story import METHODS, Story
from gram.demo.world import World
from gram.evaluation import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SERIES = {"seen": "families with labels", "unseen": "never labeled"}


def html(
    story: Story,
    pictures: Mapping[str, Figure],
    world: World,
    recipe: Recipe,
    *,
    seed: int,
    seconds: float,
    quick: bool,
    model: str,
) -> str:
    """The page as text."""
    import jinja2

    assert story.example is not None
    contest, gold, ranking = story.example
    template = jinja2.Environment(autoescape=True).from_string(
        files("gram.demo").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        seed=seed,
        seconds=seconds,
        quick=quick,
        recipe=recipe,
        seen=world.seen_families,
        unseen=world.unseen_families,
        rows=[
            {
                "name": name,
                "what": METHODS[name],
                "seen": _shown(row["seen"]),
                "unseen": _shown(row["unseen"]),
            }
            for name, row in story.accuracy.items()
        ],
        prompt=contest.prompt[0].content,
        example=[
            {
                "text": contest.responses[place],
                "wins": f"{ranking.wins[place]:.2f}",
                "gold": f"{gold[place]:.2f}",
            }
            for place in ranking.order
        ],
        model=model,
        **{name: plots.to_data_uri(figure) for name, figure in pictures.items()},
    )


PICTURES = ("accuracy", "labels", "best_of_n")
"""The names of ``figures``."""


def figures(story: Story) -> dict[str, Figure]:
    """Accuracy per method, accuracy over labels, gold over n, by name."""
    bars, ax = plots.canvas(7.2, 4.6)
    plots.accuracy_bars(
        ax,
        {
            name: {_SERIES[half]: estimate for half, estimate in row.items()}
            for name, row in story.accuracy.items()
        },
    )
    labels, ax = plots.canvas(7.2, 3.6)
    plots.curve(
        ax,
        list(story.over_labels),
        _by_name(story.over_labels),
        xlabel="labeled pairs (stage 2)",
        ylabel="accuracy, never-labeled families",
    )
    best, ax = plots.canvas(7.2, 3.6)
    sizes = list(next(iter(story.best_of_n.values())))
    plots.best_of_n_curve(ax, sizes, {name: list(curve.values()) for name, curve in story.best_of_n.items()})
    return dict(zip(PICTURES, (bars, labels, best), strict=True))


def _by_name(points: Mapping[int, Mapping[str, Estimate]]) -> dict[str, list[Estimate]]:
    names = next(iter(points.values()))
    return {name: [point[name] for point in points.values()] for name in names}


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]"

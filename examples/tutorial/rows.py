"""Makes the rows of the tutorial (docs/start.md): ``python examples/tutorial/rows.py FOLDER``.

A made-up help desk. Of two replies to a ticket the team kept the one that says what to do, and dropped the
one that only says something friendly. Tickets of the test rows and of the candidates are about other things
than those of the labels.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

THINGS = [
    "printer",
    "laptop",
    "phone",
    "router",
    "camera",
    "scanner",
    "keyboard",
    "monitor",
    "speaker",
    "tablet",
]
NEW_THINGS = ["projector", "headset", "watch", "radio", "microphone"]
TROUBLES = ["does not start", "is very slow", "makes a noise", "shows an error", "lost its settings"]
STEPS = [
    "Unplug the {thing}, wait ten seconds, and plug it in again.",
    "Open the settings of the {thing} and choose Reset.",
    "Hold the power button of the {thing} until the light blinks.",
    "Download the newest driver for the {thing} and install it.",
    "Check the cable of the {thing} and try another port.",
]
FRIENDLY = [
    "We are so sorry to hear about your {thing}!",
    "Thank you for telling us about the {thing}, have a great day!",
    "Oh no, that must be annoying, we hope the {thing} gets better soon.",
    "Your {thing} matters to us, and so do you.",
    "What a pity, such a nice {thing}, we feel with you.",
]


def pairs(things: Sequence[str], count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Ticket, kept reply and dropped reply."""
    draw = random.Random(seed)
    for _ in range(count):
        thing = draw.choice(things)
        ticket = f"My {thing} {draw.choice(TROUBLES)}. What can I do?"
        yield ticket, draw.choice(STEPS).format(thing=thing), draw.choice(FRIENDLY).format(thing=thing)


def candidates(count: int, seed: int) -> Iterator[dict[str, object]]:
    """Tickets with four replies each, one of which says what to do."""
    draw = random.Random(seed)
    for ticket, kept, dropped in pairs(NEW_THINGS, count, seed):
        thing = ticket.split()[1]
        others = [text.format(thing=thing) for text in FRIENDLY]
        replies = [kept, dropped, *[text for text in others if text != dropped][:2]]
        draw.shuffle(replies)
        yield {"prompt": ticket, "responses": replies}


def write(folder: Path) -> None:
    """Write labels.csv, test.csv and candidates.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, things, count, seed in (("labels", THINGS, 100, 1), ("test", NEW_THINGS, 60, 2)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["ticket", "kept", "dropped"])
            rows.writerows(pairs(things, count, seed))
    lines = [json.dumps(row) + "\n" for row in candidates(5, 3)]
    (folder / "candidates.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

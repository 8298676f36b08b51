"""Made-up rows for the examples: questions of a house, each with the one reply that answers it.

A wrong reply is the advice for another question, or friendly words that repeat the question. Advice for
another question has no worse words than the right reply: one has to read question and reply together.
Questions of ``LABELED`` may get labels; those of ``NEW`` never do.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LABELED = {
    "The kitchen tap drips.": "Turn off the water under the sink and put a new washer into the tap.",
    "My bicycle chain squeaks.": "Clean the chain with a rag and give every link a drop of oil.",
    "The printer says that paper is stuck.": "Open the rear cover, pull out the sheet, and close it again.",
    "My phone is full of photos.": "Copy the pictures to a disk and delete them from the phone.",
    "My bread does not rise.": "Use fresh yeast and let the dough rest in a warm place for an hour.",
    "The window is foggy every morning.": "Air the room twice a day and wipe the glass dry.",
    "My houseplant has yellow leaves.": "Water it less often and let the soil dry in between.",
    "The shower drain is blocked.": "Take off the grid, pull out the hair, and rinse with hot water.",
    "My knife is blunt.": "Draw the blade over a wet stone ten times a side, and test it on paper.",
    "The cat scratches the sofa.": "Give her a scratching post and praise her when she uses it.",
    "My glasses are always dirty.": "Wash the lenses with mild soap and dry them with a soft cloth.",
    "A light bulb flickers.": "Switch off the lamp and screw the bulb in more tightly.",
    "My wool sweater has shrunk.": "Soak it in warm water with conditioner and stretch it gently.",
    "Ants walk through the kitchen.": "Close the gap they come through and put all sugar into jars.",
    "The fridge smells.": "Throw away old food and leave a bowl of vinegar on the shelf overnight.",
    "My internet is slow in the bedroom.": "Move the router to the middle of the flat, away from walls.",
    "The rice sticks to the pot.": "Rinse the grains first and lower the heat as soon as the pot boils.",
    "There is a hole in the wall.": "Fill it with plaster, let it dry, and sand the place smooth.",
    "My car windows freeze at night.": "Lay a mat over the screen in the evening, and lift it at dawn.",
    "The washing machine shakes.": "Turn its feet until it stands level, and spread the laundry evenly.",
    "My tent leaks at the seams.": "Dry the fabric and brush sealer along every stitch.",
    "My coffee tastes bitter.": "Grind the beans more coarsely and use water that no longer boils.",
    "The radiator stays cold at the top.": "Open its valve with a key, and wait until water comes out.",
    "My guitar sounds wrong.": "Turn the peg of each string, and stop when the tuner shows the right note.",
    "I have red wine on my shirt.": "Cover the stain with salt at once and wash it in cold water.",
    "My keyboard is sticky.": "Pull off the keys, and wipe the frame with a damp cloth.",
    "The chimney smokes into the room.": "Open the flap fully, and warm the flue with burning paper.",
    "My boots let water in.": "Let the leather dry, and rub it with wax.",
    "The milk boils over.": "Lay a wooden spoon across the pan, and stir now and then.",
    "My hair is full of chewing gum.": "Work peanut butter into the strands, and comb them out.",
    "A screw will not turn.": "Spray it with penetrating oil, and try again after an hour.",
    "My clock runs slow.": "Change the battery and set the hands anew.",
    "The mattress sags in the middle.": "Turn it over, and put a board on the slats.",
    "My orchid does not bloom.": "Put it in a cooler place for a month, and give it more light.",
    "The oven door is black with grease.": "Spread a paste of baking soda on the glass, and scrape it off.",
    "My silver spoons are dark.": "Lay them on foil in hot salt water, and polish them.",
    "The neighbour plays loud music.": "Ring at his flat, and agree on quiet hours.",
    "My parrot pulls out its feathers.": "Give it company and new toys, and ask a vet.",
    "The paint peels off the fence.": "Sand the boards, and prime them before you use a new coat.",
    "My headphones work on one side only.": "Bend the cable near the plug, and replace it where it crackles.",
    "The pancakes stick to the pan.": "Heat the fat well, and wait until the edge comes loose.",
    "My contact list is gone.": "Sign in to your account, and restore it from the backup.",
    "Snails eat my lettuce.": "Strew sand around the bed, and collect them in the evening.",
    "The blinds do not go up.": "Look whether the strap is torn, and knot in a new one.",
    "My hiccups do not stop.": "Hold your breath and swallow three times.",
    "The swimming pool is cloudy.": "Clean the filter, and add chlorine in the evening.",
    "My skis are slow.": "Iron wax onto the base, and brush it when it is cold.",
    "The smoke alarm beeps once a minute.": "Put in a fresh battery and press the test button.",
    "My piano is out of tune.": "Call a tuner twice a year, and keep the air moist.",
    "I get lost in the new city.": "Load the map while you have a connection, and note three landmarks.",
}
NEW = {
    "My shoes smell.": "Put baking soda into them overnight and let them dry in fresh air.",
    "My tomatoes bear no fruit.": "Shake the flowers gently at noon and give them less fertiliser.",
    "The dog barks at the door bell.": "Ring it yourself, and give him a treat whenever he stays quiet.",
    "My laptop battery lasts only an hour.": "Make the screen darker and close programs in the background.",
    "The soup is too salty.": "Add water and a raw potato, and cook it for ten more minutes.",
    "My back hurts after sitting.": "Stand up every half hour and stretch your spine.",
    "The door creaks.": "Put a little oil on the hinges and move it back and forth.",
    "I forgot my password.": "Choose 'Reset' on the login page and follow the link in the email.",
    "My baby cries at night.": "Check the diaper, offer milk, and rock her in a dark room.",
    "The toilet does not stop running.": "Lift the lid of the tank and straighten the rubber flap.",
    "My bicycle tyre is flat.": "Find the hole in the tube, roughen the rubber, and glue a patch on it.",
    "The cake is burnt on top.": "Cover it with foil next time and bake it at a lower heat.",
    "My candles drip on the table.": "Trim the wick and keep them away from the draught.",
    "Moths eat my coats.": "Wash everything made of wool and hang lavender in the wardrobe.",
    "The computer makes loud noise.": "Blow the dust out of its fan and keep the slots free.",
    "My hands are dry in winter.": "Rub them with cream after every wash, and wear gloves outside.",
    "The lawn is full of moss.": "Rake it out in spring and scatter lime on the grass.",
    "My camera takes blurred pictures.": "Hold it with both hands, or use a tripod.",
    "The fish tank is green.": "Change a third of the water and keep it out of the sun.",
    "I cannot open the jam jar.": "Hold the lid under hot water, dry it, and twist with a rubber glove.",
    "My suitcase has lost a wheel.": "Unscrew the broken axle and fit a spare one of equal size.",
    "The sun wakes me at five.": "Hang thick curtains in the window, or wear a mask over your eyes.",
    "My pencil breaks all the time.": "Sharpen it at a flatter angle and press less hard on the paper.",
    "The zip of my jacket is stuck.": "Rub a bar of soap along its teeth and pull it slowly.",
    "My scales show a wrong weight.": "Stand them on a hard floor and set them to zero first.",
}

FRIENDLY = [
    "We are so sorry to hear that! {question} We feel with you.",
    "Thank you for telling us: {question} Have a great day!",
    "What a pity! {question}",
    "How annoying! {question}",
]


def wrong_replies(question: str, advice: Mapping[str, str], n: int, draw: random.Random) -> list[str]:
    """``n`` different ones: by turns the advice for another question, and friendly words."""
    others = draw.sample([text for other, text in advice.items() if other != question], n - n // 2)
    return [*others, *(text.format(question=question) for text in draw.sample(FRIENDLY, n // 2))]


def pairs(advice: Mapping[str, str], each: int, seed: int) -> Iterator[dict[str, str]]:
    """For every question ``each`` rows: its reply is preferred to as many wrong ones.

    ``group`` is the question: rows that share it are held back together, and count as one in an interval.
    """
    draw = random.Random(seed)
    rows = [
        {"prompt": question, "chosen": right, "rejected": wrong, "group": question}
        for question, right in advice.items()
        for wrong in wrong_replies(question, advice, each, draw)
    ]
    yield from draw.sample(rows, len(rows))


def contests(advice: Mapping[str, str], n: int, seed: int) -> Iterator[dict[str, object]]:
    """For every question ``n`` replies with their worth: the right one 1, the half of it 0.5, others 0."""
    draw = random.Random(seed)
    for question, right in advice.items():
        wrong = wrong_replies(question, advice, n - 2, draw)
        scores = {right: 1.0, first_half(right): 0.5} | dict.fromkeys(wrong, 0.0)
        replies = draw.sample(list(scores), n)
        yield {"prompt": question, "responses": replies, "scores": [scores[reply] for reply in replies]}


def policy_rows(advice: Mapping[str, str], seed: int) -> Iterator[dict[str, object]]:
    """For every question the right reply and three wrong ones: what a policy that knows no better gives."""
    draw = random.Random(seed)
    for question, right in advice.items():
        wrong = wrong_replies(question, advice, 3, draw)
        for reply in (right, *wrong):
            yield {"prompt": question, "response": reply}


def prompt_rows(advice: Mapping[str, str], seed: int) -> Iterator[dict[str, object]]:
    """For every question a wrong reply as the reference that an answer is to beat."""
    draw = random.Random(seed)
    for question, right in advice.items():
        reference = draw.choice([text for text in advice.values() if text != right])
        yield {"prompt": [{"role": "user", "content": question}], "reference": reference}


def first_half(reply: str) -> str:
    """What comes before the first comma or "and".

    Example:
        >>> first_half("Trim the wick and keep them away from the draught.")
        'Trim the wick.'
    """
    return re.split(r",| and ", reply)[0] + "."


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

"""Draws a folder of captioned pictures to practise on: python examples/draw_landscapes.py FOLDER.

They are as pictures of one's own are: wider than high, of several sizes and formats, with a
metadata.csv that names each of them, says what it shows and has two columns for the judge.
"""

import argparse
import csv
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

THINGS = ("boat", "house", "tree", "windmill")
TIMES = {"by day": "day", "at dusk": "dusk", "at night": "night"}
SKIES = {"day": (142, 202, 240), "dusk": (240, 152, 96), "night": (22, 26, 66)}
LIGHTS = {"day": (255, 232, 120), "dusk": (214, 66, 52), "night": (238, 238, 226)}
GROUNDS = {"day": (108, 168, 76), "dusk": (98, 92, 58), "night": (30, 52, 50)}
WATERS = {"day": (48, 118, 190), "dusk": (120, 74, 96), "night": (16, 38, 84)}
OVER = 4  # drawn so many times larger, then made small: smooth edges


def draw(thing: str, time: str, chance: random.Random) -> Image.Image:
    """Returns a picture of a thing at a time, with the rest left to chance."""
    width, height = chance.choice([(96, 72), (120, 90), (128, 80)])
    w, h = width * OVER, height * OVER
    image = Image.new("RGB", (w, h), shifted(SKIES[time], chance))
    pen = ImageDraw.Draw(image)
    horizon = int(h * chance.uniform(0.62, 0.72))
    x, y = w / 2 + h * chance.uniform(-0.12, 0.12), horizon + h * 0.04
    light, r = w / 2 + h * chance.choice([-0.36, 0.36]), h * 0.08
    pen.ellipse((light - r, h * 0.16 - r, light + r, h * 0.16 + r), LIGHTS[time])
    below = WATERS if thing == "boat" else GROUNDS
    pen.rectangle((0, horizon, w, h), shifted(below[time], chance))
    {"boat": boat, "house": house, "tree": tree, "windmill": windmill}[thing](
        pen, x, y, h * chance.uniform(0.9, 1.1), chance
    )
    return image.resize((width, height), Image.Resampling.LANCZOS)


def shifted(colour: tuple[int, ...], chance: random.Random) -> tuple[int, ...]:
    """Returns a colour a little lighter or darker."""
    by = chance.randint(-10, 10)
    return tuple(min(255, max(0, value + by)) for value in colour)


def boat(pen: ImageDraw.ImageDraw, x: float, y: float, s: float, chance: random.Random) -> None:
    """Draws a sailing boat of size s at (x, y)."""
    pen.polygon(
        [
            (x - s * 0.26, y),
            (x + s * 0.26, y),
            (x + s * 0.17, y + s * 0.1),
            (x - s * 0.17, y + s * 0.1),
        ],
        (96, 58, 34),
    )
    pen.polygon(
        [(x, y - s * 0.4), (x, y - s * 0.03), (x + s * 0.24, y - s * 0.03)], (246, 244, 236)
    )
    pen.polygon(
        [(x - s * 0.03, y - s * 0.32), (x - s * 0.03, y - s * 0.03), (x - s * 0.18, y - s * 0.03)],
        (222, 216, 200),
    )


def house(pen: ImageDraw.ImageDraw, x: float, y: float, s: float, chance: random.Random) -> None:
    """Draws a house with a red roof."""
    pen.rectangle((x - s * 0.2, y - s * 0.24, x + s * 0.2, y), (232, 222, 200))
    pen.polygon(
        [(x - s * 0.26, y - s * 0.24), (x + s * 0.26, y - s * 0.24), (x, y - s * 0.44)],
        (178, 52, 40),
    )
    pen.rectangle((x - s * 0.05, y - s * 0.14, x + s * 0.05, y), (92, 62, 40))
    for side in (-1, 1):
        left = x + side * s * 0.13
        pen.rectangle(
            (left - s * 0.035, y - s * 0.19, left + s * 0.035, y - s * 0.12), (250, 214, 110)
        )


def tree(pen: ImageDraw.ImageDraw, x: float, y: float, s: float, chance: random.Random) -> None:
    """Draws a tree with a round crown."""
    pen.rectangle((x - s * 0.035, y - s * 0.22, x + s * 0.035, y), (94, 64, 38))
    for dx, dy, r in ((-0.1, 0.24, 0.12), (0.1, 0.24, 0.12), (0, 0.34, 0.15)):
        pen.ellipse(
            (x + s * (dx - r), y - s * (dy + r), x + s * (dx + r), y - s * (dy - r)), (38, 122, 58)
        )


def windmill(pen: ImageDraw.ImageDraw, x: float, y: float, s: float, chance: random.Random) -> None:
    """Draws a windmill, its sails turned by chance."""
    pen.polygon(
        [
            (x - s * 0.13, y),
            (x + s * 0.13, y),
            (x + s * 0.07, y - s * 0.3),
            (x - s * 0.07, y - s * 0.3),
        ],
        (206, 196, 182),
    )
    turn, hub = chance.uniform(0, math.pi / 2), y - s * 0.3
    for quarter in range(4):
        angle = turn + quarter * math.pi / 2
        end = (x + s * 0.24 * math.cos(angle), hub + s * 0.24 * math.sin(angle))
        pen.line([(x, hub), end], (120, 44, 36), width=int(s * 0.055))


def main() -> None:
    """Writes the pictures and their metadata.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to; made if need be")
    parser.add_argument("--num", type=int, default=1000, help="how many pictures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    kinds = [(thing, phrase) for phrase in TIMES for thing in THINGS]
    with (options.folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["file_name", "text", "thing", "time"])
        for number in range(options.num):
            chance = random.Random(number)
            thing, phrase = kinds[number % len(kinds)]
            name = f"{number:04}.{'jpg' if number % 2 else 'png'}"
            draw(thing, TIMES[phrase], chance).save(options.folder / name, quality=92)
            lines.writerow([name, f"a {thing} {phrase}", thing, TIMES[phrase]])
    print(f"{options.num} pictures in {options.folder}")


if __name__ == "__main__":
    main()

"""Paint, vary and edit from Python: python examples/paint_and_edit.py [MODELS] [OUT]

Without MODELS it takes the Fashion-MNIST system that comes with the code, so that nothing need be
trained before. Writes three sheets into OUT, samples/example by default.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unclip.api import UnCLIP
from unclip.config.streams import replace_what_cannot_be_shown
from unclip.pictures.png import save_png
from unclip.pictures.sheets import grid, strip

REPOSITORY = Path(__file__).resolve().parent.parent
PRETRAINED = "pretrained/fashion_mnist"
SNEAKER, BOOT = "An image of a sneaker", "An image of an ankle boot"


def main(models: Path, out: Path) -> None:
    """Writes grid.png, varied.png and edited.png."""
    unclip = UnCLIP.load(models)
    print("knows captions such as", ", ".join(unclip.system.known.captions[:4]))

    prompts = [SNEAKER, BOOT]
    pictures = unclip.sample(prompts, num=6, seed=0).images  # (2, 6, 1, 32, 32) uint8
    save_png(grid(pictures, prompts), out / "grid.png")

    sneaker = pictures[0, 0]
    others = unclip.vary(sneaker, num=6).images  # (6, 1, 32, 32)
    headings = ["other noise"] + [""] * 5
    save_png(strip(others, "like it", headings, (sneaker, None)), out / "varied.png")

    way = unclip.edit(sneaker, SNEAKER, BOOT, frames=7)
    headings = [f"{i / 6:.2f}" for i in range(7)]
    label = way.sheet_note["description"]
    save_png(strip(way.images, label, headings, (sneaker, None)), out / "edited.png")
    print(f"{out}: grid.png, varied.png and edited.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="?", type=Path, default=REPOSITORY / PRETRAINED)
    parser.add_argument("out", nargs="?", type=Path, default=Path("samples/example"))
    given = parser.parse_args()
    replace_what_cannot_be_shown()
    main(given.models, given.out)

"""Paints the same captions and noise over a range of guidance, steps and samplers, and judges them.

Left out, in no time, where params.yaml asks for no pictures of it.
"""

from unclip.config.layout import Layout
from unclip.params.sections import SampleParams, SweepParams
from unclip.running.stage import main

STAGE = "sweep"
LEFT_OUT = "Nothing was swept; try: dvc exp run -S sweep.num_pictures=300\n"


def run(layout: Layout, sample: SampleParams, sweep: SweepParams) -> None:
    """Writes samples/sweep: figures of every setting, plots of them, and grids with equal noise."""
    layout.sweep.mkdir(parents=True, exist_ok=True)
    for old in layout.sweep.iterdir():
        old.unlink()
    if sweep.num_pictures == 0:
        (layout.sweep / "left_out.txt").write_text(LEFT_OUT, encoding="utf-8")
        return
    from unclip.evaluation.sweep import Studio  # torch takes seconds, and most runs want no sweep

    studio = Studio.of(layout, sample, sweep)
    studio.sweep_guidance()
    studio.sweep_steps()


if __name__ == "__main__":
    main(STAGE, run)

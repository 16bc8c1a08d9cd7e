"""How much is measured: enough to see that it works, what a docs page needs, or all of it."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.workspace import SHIPPED, TUTORIAL, Changes, changed_params, make_workspace

STAGES = (
    *("prepare", "train_clip", "train_prior", "train_decoder", "train_judge"),
    *("sample", "paint_controls", "evaluate", "report"),
)
# The tutorial's UNet, about 15 M parameters, at its batch on a processor.
LARGE: Changes = {"decoder": {"batch_size": 32}}


@dataclass(frozen=True)
class Scale:
    """Sizes and lengths of all benchmarks.

    Attributes:
        rounds: turns of each contender.
        turn_seconds: about how long a turn lasts; at least one unit of work.
        pictures: of a workspace in which steps are timed.
        large_recipe: params of the large networks.
        large_changes: what is changed in them.
        sampling_steps: steps of the decoder that are compared.
        paint_batches: pictures painted at once.
        judge_batches: pictures judged at once.
        judged: pictures that are judged.
        naive_steps: of the naive sampling's 1000; the rest is taken to last as long.
        stages: which stages are run.
        stage_changes: how the shipped params are changed for that; nothing is as they ship.
        stage_pictures: of the data set of the stages; None is the shipped number.
        command_rounds: how often a command is run.
        image_sizes: pixels.
        widths: channels of the decoder's first level.
        batch_sizes: pictures of a training step.
        data_sizes: pictures of a data set.
    """

    rounds: int = 7
    turn_seconds: float = 2.0
    pictures: int = 2400
    large_recipe: Path = TUTORIAL
    large_changes: Changes = field(default_factory=lambda: LARGE)
    sampling_steps: tuple[int, ...] = (5, 10, 25, 50, 250)
    paint_batches: tuple[int, ...] = (1, 10, 50, 200)
    judge_batches: tuple[int, ...] = (50, 125, 500)
    judged: int = 2000
    naive_steps: int = 20
    stages: tuple[str, ...] = STAGES
    stage_changes: Changes = field(default_factory=dict)
    stage_pictures: int | None = None
    command_rounds: int = 5
    image_sizes: tuple[int, ...] = (16, 32, 64)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    data_sizes: tuple[int, ...] = (1_000, 10_000, 100_000)

    def make_workspaces(self, folder: Path) -> tuple[Path, Path]:
        """Returns two new workspaces below a folder: of the shipped and of the large networks."""
        shipped = changed_params(SHIPPED, self.pictures)
        large = changed_params(self.large_recipe, self.pictures, self.large_changes)
        return (
            make_workspace(folder / "shipped", shipped).root,
            make_workspace(folder / "large", large).root,
        )


SHORT = {"train_steps": 4, "warmup_steps": 2, "val_every": 4}
USUAL = Scale()
FULL = Scale(data_sizes=(1_000, 10_000, 100_000, 1_000_000))
QUICK = Scale(
    rounds=2,
    turn_seconds=0.0,
    pictures=320,
    large_recipe=SHIPPED,
    large_changes={"decoder": {"batch_size": 4}},
    sampling_steps=(2, 4),
    paint_batches=(1, 4),
    judge_batches=(20, 40),
    judged=80,
    naive_steps=2,
    stages=("prepare", "train_judge"),
    stage_changes={"judge": SHORT},
    stage_pictures=320,
    command_rounds=1,
    image_sizes=(16,),
    widths=(16,),
    batch_sizes=(4,),
    data_sizes=(320,),
)

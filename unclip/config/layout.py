"""Where things lie in a workspace: the one place in code that knows the names in dvc.yaml."""

from dataclasses import dataclass
from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.yaml12 import load_yaml

MODEL_OF_STAGE = {
    "train_clip": "clip",
    "train_prior": "prior",
    "train_decoder": "decoder",
    "train_judge": "judge",
}
KINDS = ("clip", "prior", "decoder")  # the networks of a system that paints, CLIP first
# What is painted from in the prior's place: what it must be better than, and its ceiling.
CONTROLS = ("text_embed", "caption_mean", "image_embed")


@dataclass(frozen=True)
class Layout:
    """The files and folders of one workspace, below `root`."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        """Every value of the experiment."""
        return self.root / "params.yaml"

    @property
    def prepared(self) -> Path:
        """The data set as prepare leaves it."""
        return self.root / "data" / "prepared"

    @property
    def preview(self) -> Path:
        """Training pictures with their captions."""
        return self.root / "samples" / "data.png"

    @property
    def embeddings(self) -> Path:
        """CLIP's embeddings of every picture and of every distinct caption."""
        return self.root / "data" / "embeddings"

    @property
    def models(self) -> Path:
        """The trained networks, a folder each."""
        return self.root / "models"

    def model(self, kind: str) -> Path:
        """The folder of a trained network: clip, prior, decoder or judge."""
        return self.models / kind

    def metrics(self, name: str) -> Path:
        """The figures of a stage."""
        return self.root / "metrics" / f"{name}.json"

    def history(self, stage: str) -> Path:
        """The curves of a training stage, one row a logged step."""
        return self.root / "history" / f"{stage}.csv"

    def plot(self, name: str) -> Path:
        """A picture of figures."""
        return self.root / "plots" / f"{name}.png"

    @property
    def painted_in_training(self) -> Path:
        """Grids painted while the decoder learns."""
        return self.root / "samples" / "train_decoder"

    @property
    def grid(self) -> Path:
        """The grid of prompts × seeds."""
        return self.root / "samples" / "grid.png"

    @property
    def trajectory(self) -> Path:
        """Ten moments of the reverse diffusion."""
        return self.root / "samples" / "trajectory.png"

    @property
    def judged(self) -> Path:
        """The pictures that evaluate judges."""
        return self.root / "samples" / "judged"

    @property
    def controls(self) -> Path:
        """Pictures of the same captions and noise, painted without the prior."""
        return self.root / "samples" / "controls"

    def control(self, kind: str) -> Path:
        """The pictures of one of CONTROLS."""
        return self.controls / f"{kind}.npy"

    @property
    def sweep(self) -> Path:
        """Plots, tables and grids of one system painted from in many ways."""
        return self.root / "samples" / "sweep"

    @property
    def report(self) -> Path:
        """What was recorded in MLflow, and under which run."""
        return self.root / "report.json"


def models_in(folder: Path) -> Path:
    """Returns the folder of the networks themselves: `models` in it, or the folder itself."""
    return folder / "models" if (folder / "models").is_dir() else folder


def declared(dvc_yaml: Path, stage: str, what: str) -> list[str]:
    """Returns what dvc.yaml lists for a stage: its "deps", or its "params".

    Raises:
        UserError: dvc.yaml is missing or has no such stage.
    """
    try:
        stages = load_yaml(dvc_yaml.read_text(encoding="utf-8"))["stages"]
        return list(stages[stage].get(what, []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{dvc_yaml}: no stage {stage!r}; run from the folder that holds dvc.yaml"
        ) from None

"""Where files are in a workspace: the only code that knows the names in dvc.yaml."""

from pathlib import Path

from unclip.config.errors import UserError
from unclip.config.yaml12 import load_yaml

MODEL_OF_STAGE = {
    "train_clip": "clip",
    "train_prior": "prior",
    "train_decoder": "decoder",
    "train_judge": "judge",
}
KINDS = ("clip", "prior", "decoder")  # the networks of a painting system, CLIP first
# Embeddings that replace the prior's: two baselines and the upper bound.
CONTROLS = ("text_embed", "caption_mean", "image_embed")


class Layout:
    """The files and folders of one workspace, below `root`."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root
        self.params = root / "params.yaml"
        self.prepared = root / "data" / "prepared"  # the prepared data set
        self.embeddings = root / "data" / "embeddings"  # CLIP's, for all pictures and captions
        self.models = root / "models"  # a folder for each trained network
        self.preview = root / "samples" / "data.png"  # training pictures with their captions
        self.painted_in_training = root / "samples" / "train_decoder"
        self.grid = root / "samples" / "grid.png"  # prompts × seeds
        self.trajectory = root / "samples" / "trajectory.png"  # steps of the reverse diffusion
        self.judged = root / "samples" / "judged"  # the pictures that evaluate judges
        self.controls = (
            root / "samples" / "controls"
        )  # the same pictures, painted without the prior
        self.report = root / "report.json"  # what was recorded in MLflow

    def model(self, kind: str) -> Path:
        """Returns the folder of a trained network: clip, prior, decoder or judge."""
        return self.models / kind

    def control(self, kind: str) -> Path:
        """Returns the file with the pictures of one of CONTROLS."""
        return self.controls / f"{kind}.npy"

    def metrics(self, name: str) -> Path:
        """Returns the file of a stage's metrics."""
        return self.root / "metrics" / f"{name}.json"

    def history(self, stage: str) -> Path:
        """Returns the file of a training's curves, one row for each logged step."""
        return self.root / "history" / f"{stage}.csv"

    def plot(self, name: str) -> Path:
        """Returns the file of a plot."""
        return self.root / "plots" / f"{name}.png"


def models_in(folder: Path) -> Path:
    """Returns the folder of the networks: its subfolder `models`, or the folder itself."""
    return folder / "models" if (folder / "models").is_dir() else folder


def declared(dvc_yaml: Path, stage: str, what: str) -> list[str]:
    """Returns what dvc.yaml lists for a stage under `what`: "deps" or "params".

    Raises:
        UserError: dvc.yaml is missing or has no such stage.
    """
    try:
        stages = load_yaml(dvc_yaml.read_text(encoding="utf-8"))["stages"]
        return list(stages[stage].get(what, []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{dvc_yaml}: no stage {stage!r}; run from the folder that contains dvc.yaml"
        ) from None

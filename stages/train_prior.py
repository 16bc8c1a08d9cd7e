"""Trains the diffusion prior, from a caption to CLIP's embedding of a picture. It sees no pixel."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import (
    Artifact,
    describe,
    file_hash,
    save_artifact,
    weights_hash,
    write_metrics,
)
from unclip.core.device import Machine, open_machine, to_device
from unclip.core.seeding import derive_seed, generator
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.diffusion.process import Diffusion
from unclip.models.prior import Prior
from unclip.params.sections import PriorParams
from unclip.running.stage import main
from unclip.training.batches import ShuffledBatches
from unclip.training.run import trained
from unclip.training.share import Share

STAGE = "train_prior"
MODEL_KEYS = ("dim", "depth", "num_heads", "dropout")
VALIDATION_BATCH = 1000  # embeddings; changes speed only
CHUNK = 1000  # embeddings in memory at a time while their mean is taken
Embeds = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]


def run(layout: Layout, prior: PriorParams) -> None:
    """Writes models/prior, metrics and history."""
    machine = open_machine(prior.precision)
    task = PriorTask.of(layout, prior, machine)
    with trained(STAGE, task, prior, layout, machine) as (fitted, _):
        facts = {
            "embed_mean": task.mean.tolist(),
            "embed_std": task.std.tolist(),
            "diffusion": asdict(task.diffusion),
        }
        inputs = {
            "clip": weights_hash(layout.model("clip")),
            "data": file_hash(layout.prepared / "dataset.json"),
        }
        artifact = Artifact("prior", task.config, fitted.weights, facts, inputs)
        save_artifact(layout.model("prior"), artifact)
        write_metrics(layout.metrics(STAGE), fitted.metrics)


@dataclass(frozen=True)
class PriorTask:
    """What the prior learns from.

    Attributes:
        prior: the params.
        device: where it computes.
        share: which rows of a batch this process computes.
        config: what the prior is built from.
        embeddings: CLIP's, of captions and pictures.
        train: (N, D) float32, the training pictures' embeddings, on disk.
        val: (M, D) float32, those of pictures that measure the loss, on disk.
        train_captions: (N,) int32, the caption of each training picture, on disk.
        val_captions: (M,) int32, likewise.
        mean: (D,) float32, of the training embeddings.
        std: (D,) float32. CLIP embeddings lie in a narrow cone: scaling alone would leave its mean.
        diffusion: its schedule, and what the prior predicts.
        batches: which pictures a step learns from.
    """

    prior: PriorParams
    device: str
    share: Share
    config: dict[str, Any]
    embeddings: Embeddings
    train: Embeds
    val: Embeds
    train_captions: Tensor
    val_captions: Tensor
    mean: Tensor
    std: Tensor
    diffusion: Diffusion
    batches: ShuffledBatches

    @classmethod
    def of(cls, layout: Layout, prior: PriorParams, machine: Machine) -> "PriorTask":
        """Returns the task of a workspace."""
        clip = describe(layout.model("clip"), "clip")
        config = {key: getattr(prior, key) for key in MODEL_KEYS}
        config |= {key: clip.config[key] for key in ("embed_dim", "text_dim", "text_length")}
        data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
        train, val = embeddings.images("train"), data.split("val", prior.val_pictures)
        mean, std = (torch.from_numpy(each).float() for each in mean_and_std(train))
        return cls(
            prior,
            machine.device,
            Share.of(machine.accelerator),
            config,
            embeddings,
            train,
            embeddings.images("val")[: len(val)],
            data.split("train").caption_index,
            val.caption_index,
            mean,
            std.clamp(min=1e-6),
            Diffusion.of(prior),
            ShuffledBatches(len(train), prior.batch_size, prior.seed, STAGE),
        )

    def new_model(self) -> Prior:
        """Returns the prior with its first, seeded weights."""
        torch.manual_seed(derive_seed(self.prior.seed, f"{STAGE} weights"))
        return Prior(**self.config)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, some of its captions dropped."""
        index, draws = self.batches(step), generator(self.prior.seed, f"{STAGE} draws", step)
        drop_mask = torch.rand(len(index), generator=draws) < self.prior.cond_drop_prob
        t, noise = self._draw(len(index), draws)
        index, drop_mask, t, noise = map(self.share.rows, (index, drop_mask, t, noise))
        x_start = self._standardised(self.train, index)
        return self._loss(model, x_start, self.train_captions[index], drop_mask, t, noise)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss on validation pictures, nothing dropped, always with the same noise."""
        losses = []
        batches = torch.arange(len(self.val)).split(VALIDATION_BATCH)
        for i, index in self.share.turns(batches):
            draws = generator(self.prior.seed, f"{STAGE} validation", i)
            t, noise = self._draw(len(index), draws)
            keep = torch.zeros(len(index), dtype=torch.bool)
            x_start = self._standardised(self.val, index)
            loss = self._loss(model, x_start, self.val_captions[index], keep, t, noise)
            losses.append(float(loss) * len(index))
        return {"val_loss": self.share.total(sum(losses)) / len(self.val)}

    def _draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns timesteps (count,) and noise (count, D)."""
        t = self.diffusion.draw_timesteps(count, draws)
        return t, torch.randn(count, len(self.mean), generator=draws)

    def _standardised(self, embeds: Embeds, index: Tensor) -> Tensor:
        """Returns embeddings (B, D) as the prior sees them: of mean 0 and std 1."""
        return (torch.from_numpy(embeds[index.numpy()]) - self.mean) / self.std

    def _loss(
        self,
        model: nn.Module,
        x_start: Tensor,
        captions: Tensor,
        drop_mask: Tensor,
        t: Tensor,
        noise: Tensor,
    ) -> Tensor:
        distinct, caption_index = captions.unique(return_inverse=True)
        conditions = {
            "text_encodings": self.embeddings.encodings(distinct),
            "text_embeds": self.embeddings.captions[distinct],
            "text_mask": self.embeddings.caption_mask[distinct],
            "drop_mask": drop_mask,
            "caption_index": caption_index,
        }
        on_device = {name: to_device(each, self.device) for name, each in conditions.items()}
        return self.diffusion.loss(
            lambda x_t, t: model(x_t, t, **on_device),
            to_device(x_start, self.device),
            to_device(t, self.device),
            to_device(noise, self.device),
        )


def mean_and_std(embeds: Embeds) -> tuple[Vector, Vector]:
    """Returns mean and (sample) standard deviation of each column of embeddings (N, D), float64.

    Rows are added one after another, so that the size of the chunks changes no bit.
    """

    def sums(of: Callable[[Vector], Vector]) -> Vector:
        total = np.zeros(embeds.shape[1])
        for start in range(0, len(embeds), CHUNK):
            rows = of(embeds[start : start + CHUNK].astype(np.float64))
            total = np.vstack([total, rows]).cumsum(axis=0)[-1]
        return total

    mean = sums(lambda rows: rows) / len(embeds)
    return mean, np.sqrt(sums(lambda rows: (rows - mean) ** 2) / (len(embeds) - 1))


if __name__ == "__main__":
    main(STAGE, run, is_shared=True)

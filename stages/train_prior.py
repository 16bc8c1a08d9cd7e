"""Trains the diffusion prior, from a caption to CLIP's embedding of a picture. It sees no pixel."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import describe, write_metrics
from unclip.core.device import Machine, open_machine
from unclip.core.seeding import generator
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.diffusion.process import Diffusion
from unclip.models.prior import Prior
from unclip.params.sections import PriorParams
from unclip.running.stage import main
from unclip.training.run import trained
from unclip.training.task import Task

STAGE = "train_prior"
MODEL_KEYS = ("dim", "depth", "num_heads", "dropout")
VALIDATION_BATCH = 1000  # embeddings; changes speed only
CHUNK = 1000  # embeddings in memory at a time while their mean is taken
Embeds = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]


def run(layout: Layout, prior: PriorParams) -> None:
    """Writes models/prior, metrics and history."""
    task = PriorTask.of(layout, prior, open_machine(prior.precision))
    with trained(task, layout) as (fitted, _):
        facts = {
            "embed_mean": task.mean.tolist(),
            "embed_std": task.std.tolist(),
            "diffusion": asdict(task.diffusion),
        }
        task.save(layout, fitted.weights, facts)
        write_metrics(layout.metrics(STAGE), fitted.metrics)


@dataclass(frozen=True)
class PriorTask(Task[PriorParams]):
    """What the prior learns from: captions, and the embeddings of their pictures.

    Attributes:
        embeddings: CLIP's, of captions and pictures.
        train_embeds: (N, D) float32, of the training pictures, on disk.
        val_embeds: (M, D) float32, of the pictures that measure the loss, on disk.
        mean: (D,) float32, of the training embeddings.
        std: (D,) float32. CLIP embeddings lie in a narrow cone: scaling alone would leave its mean.
        diffusion: its schedule, and what the prior predicts.
    """

    stage = STAGE
    network = Prior

    embeddings: Embeddings
    train_embeds: Embeds
    val_embeds: Embeds
    mean: Tensor
    std: Tensor
    diffusion: Diffusion

    @classmethod
    def of(cls, layout: Layout, prior: PriorParams, machine: Machine) -> "PriorTask":
        """Returns the task of a workspace."""
        clip = describe(layout.model("clip"), "clip")
        config = {key: getattr(prior, key) for key in MODEL_KEYS}
        config |= {key: clip.config[key] for key in ("embed_dim", "text_dim", "text_length")}
        data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
        embeds, val = embeddings.images("train"), data.split("val", prior.val_pictures)
        mean, std = (torch.from_numpy(each).float() for each in mean_and_std(embeds))
        return cls(
            *(data, prior, machine, config, data.split("train"), val),
            embeddings,
            embeds,
            embeddings.images("val")[: len(val)],
            mean,
            std.clamp(min=1e-6),
            Diffusion.of(prior),
        )

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, some of its captions dropped."""
        index, draws = self.batches(step), generator(self.params.seed, f"{STAGE} draws", step)
        drop_mask = torch.rand(len(index), generator=draws) < self.params.cond_drop_prob
        t, noise = self._draw(len(index), draws)
        index, drop_mask, t, noise = map(self.share.rows, (index, drop_mask, t, noise))
        x_start = self._standardised(self.train_embeds, index)
        return self._loss(model, x_start, self.train.caption_index[index], drop_mask, t, noise)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss on validation pictures, nothing dropped, always with the same noise."""

        def loss_of(batch: int, index: Tensor) -> Tensor:
            draws = generator(self.params.seed, f"{STAGE} validation", batch)
            t, noise = self._draw(len(index), draws)
            keep = torch.zeros(len(index), dtype=torch.bool)
            x_start = self._standardised(self.val_embeds, index)
            return self._loss(model, x_start, self.val.caption_index[index], keep, t, noise)

        return {"val_loss": self.share.mean_loss(loss_of, len(self.val), VALIDATION_BATCH)}

    def _draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns timesteps (count,) and noise (count, D)."""
        t = self.diffusion.draw_timesteps(count, draws)
        return t, torch.randn(count, len(self.mean), generator=draws)

    def _standardised(self, embeds: Embeds, index: Tensor) -> Tensor:
        """Returns embeddings (B, D) with mean 0 and std 1, as the prior sees them."""
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
        conditions = {name: self.on_device(each) for name, each in conditions.items()}
        x_start, t, noise = map(self.on_device, (x_start, t, noise))
        return self.diffusion.loss(lambda x_t, t: model(x_t, t, **conditions), x_start, t, noise)


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

"""Trains the diffusion prior, from a caption to CLIP's embedding of a picture. It sees no pixel."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from unclip.artifacts import (
    Artifact,
    describe,
    file_hash,
    save_artifact,
    weights_hash,
    write_metrics,
)
from unclip.data import Prepared
from unclip.diffusion.losses import diffusion_loss, draw_timesteps
from unclip.embeddings import Embeddings
from unclip.layout import Layout
from unclip.machine import open_machine
from unclip.models.prior import Prior
from unclip.params import PriorParams
from unclip.sampling import Diffusion
from unclip.seeding import derive_seed, generator
from unclip.stage import main
from unclip.tracking.live import StageRun
from unclip.training.batches import ShuffledBatches
from unclip.training.fit import fit

STAGE = "train_prior"
MODEL_KEYS = ("dim", "depth", "num_heads", "dropout")
VALIDATION_BATCH = 1000  # embeddings; changes speed only


def run(layout: Layout, prior: PriorParams) -> None:
    """Writes models/prior, metrics and history."""
    machine = open_machine(prior.precision)
    task = Task.of(layout, prior, machine.device)
    clip = describe(layout.model("clip"), "clip")
    config = {key: getattr(prior, key) for key in MODEL_KEYS}
    config |= {key: clip.config[key] for key in ("embed_dim", "text_dim", "text_length")}
    torch.manual_seed(derive_seed(prior.seed, f"{STAGE} weights"))
    with StageRun(STAGE, {"prior": prior.model_dump()}, {"precision": machine.precision}) as log:
        fitted = fit(
            Prior(**config),
            task.loss,
            task.validate,
            prior,
            stage=STAGE,
            accelerator=machine.accelerator,
            log=log,
            history_path=layout.history(STAGE),
            ema_decay=prior.ema_decay,
        )
        facts = {
            "embed_mean": task.mean.tolist(),
            "embed_std": task.std.tolist(),
            "diffusion": asdict(task.diffusion),
        }
        inputs = {
            "clip": weights_hash(layout.model("clip")),
            "data": file_hash(layout.prepared / "dataset.json"),
        }
        artifact = Artifact("prior", config, fitted.weights, facts, inputs)
        save_artifact(layout.model("prior"), artifact)
        write_metrics(layout.metrics(STAGE), fitted.metrics)
        log.set_tags({"output_hash": weights_hash(layout.model("prior"))})


@dataclass(frozen=True)
class Task:
    """What the prior learns from.

    Attributes:
        prior: the params.
        device: where it computes.
        embeddings: CLIP's, of captions and pictures.
        train: (N, D) float32, the training pictures' embeddings, standardised.
        val: (M, D) float32, the validation pictures', standardised alike.
        train_captions: (N,) int64, the caption of each training picture.
        val_captions: (M,) int64.
        mean: (D,) float32, of the training embeddings.
        std: (D,) float32. CLIP embeddings lie in a narrow cone: scaling alone would leave its mean.
    """

    prior: PriorParams
    device: str
    embeddings: Embeddings
    train: Tensor
    val: Tensor
    train_captions: Tensor
    val_captions: Tensor
    mean: Tensor
    std: Tensor
    diffusion: Diffusion
    batches: ShuffledBatches

    @classmethod
    def of(cls, layout: Layout, prior: PriorParams, device: str) -> "Task":
        """Returns the task of a workspace."""
        data, embeddings = Prepared(layout.prepared), Embeddings(layout.embeddings)
        train, val = (torch.from_numpy(embeddings.images(s).copy()) for s in ("train", "val"))
        mean, std = train.mean(dim=0), train.std(dim=0).clamp(min=1e-6)
        return cls(
            prior,
            device,
            embeddings,
            (train - mean) / std,
            (val - mean) / std,
            data.split("train").caption_index,
            data.split("val").caption_index,
            mean,
            std,
            Diffusion.of(prior),
            ShuffledBatches(len(train), prior.batch_size, prior.seed, STAGE),
        )

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, some of its captions dropped."""
        index, draws = self.batches(step), generator(self.prior.seed, f"{STAGE} draws", step)
        drop_mask = torch.rand(len(index), generator=draws) < self.prior.cond_drop_prob
        return self._loss(model, self.train[index], self.train_captions[index], drop_mask, draws)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss on all validation pictures, nothing dropped, always the same noise."""
        losses = []
        for i, index in enumerate(torch.arange(len(self.val)).split(VALIDATION_BATCH)):
            draws = generator(self.prior.seed, f"{STAGE} validation", i)
            keep = torch.zeros(len(index), dtype=torch.bool)
            loss = self._loss(model, self.val[index], self.val_captions[index], keep, draws)
            losses.append(float(loss) * len(index))
        return {"val_loss": sum(losses) / len(self.val)}

    def _loss(
        self,
        model: nn.Module,
        x_start: Tensor,
        captions: Tensor,
        drop_mask: Tensor,
        draws: torch.Generator,
    ) -> Tensor:
        t = draw_timesteps(len(x_start), self.diffusion.num_timesteps, draws)
        noise = torch.randn(x_start.shape, generator=draws)
        distinct, caption_index = captions.unique(return_inverse=True)
        conditions = {
            "text_encodings": self.embeddings.encodings(distinct),
            "text_embeds": self.embeddings.captions[distinct],
            "text_mask": self.embeddings.caption_mask[distinct],
            "drop_mask": drop_mask,
            "caption_index": caption_index,
        }
        on_device = {name: tensor.to(self.device) for name, tensor in conditions.items()}
        return diffusion_loss(
            lambda x_t, t: model(x_t, t, **on_device),
            self.diffusion.noise_schedule,
            self.diffusion.prediction_type,
            x_start.to(self.device),
            t.to(self.device),
            noise.to(self.device),
        )


if __name__ == "__main__":
    main(STAGE, run)

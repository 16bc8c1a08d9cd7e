"""Trains the diffusion decoder on pictures and their own CLIP embeddings (unCLIP §2.1).

It never meets the prior: at sampling time the prior's embedding takes the place of the real one.
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
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
from unclip.data.prepared import Prepared, PreparedSplit
from unclip.data.tokenizer import VOCAB_SIZE, tokenize, trim_padding
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import Solver, final, reverse_diffusion
from unclip.models.unet import UNet
from unclip.params.sections import DecoderParams
from unclip.running.stage import main
from unclip.tracking.live import StageRun
from unclip.training.batches import ShuffledBatches
from unclip.training.fit import Hook
from unclip.training.run import trained
from unclip.training.share import Share

STAGE = "train_decoder"
MODEL_KEYS = (
    *("patch_size", "model_channels", "channel_mult", "num_res_blocks", "attn_resolutions"),
    *("head_channels", "dropout", "downsample", "conditioning", "num_image_tokens"),
    *("caption_depth", "caption_dim"),
)
VALIDATION_BATCH = 250  # pictures; changes speed only
PAINTED = 12  # pictures of the small grid
ENLARGED = 4  # times, so that the small grid can be seen


def run(layout: Layout, decoder: DecoderParams) -> None:
    """Writes models/decoder, metrics, history and the grids painted on the way."""
    machine = open_machine(decoder.precision)
    task = DecoderTask.of(layout, decoder, machine)
    data = task.data
    made = layout.painted_in_training
    if task.share.leads:
        shutil.rmtree(made, ignore_errors=True)

    def painting(log: StageRun) -> tuple[Hook, ...]:
        def paint(step: int, model: nn.Module) -> None:
            with machine.accelerator.autocast():
                painted = task.paint(model)
            path = made / f"step_{step:06d}.png"
            save_grid(painted, path)
            log_grid(path, log)

        def log_again() -> None:
            for path in sorted(made.glob("*.png")):
                log_grid(path, log)

        return (Hook(decoder.paint_every, paint, log_again),)

    with trained(STAGE, task, decoder, layout, machine, hooks=painting, made=made) as (fitted, _):
        facts = {"diffusion": asdict(task.diffusion), "mean": data.mean, "std": data.std}
        inputs = {
            "clip": weights_hash(layout.model("clip")),
            "data": file_hash(layout.prepared / "dataset.json"),
        }
        artifact = Artifact("decoder", task.config, fitted.weights, facts, inputs)
        save_artifact(layout.model("decoder"), artifact)
        write_metrics(layout.metrics(STAGE), fitted.metrics)


def save_grid(pictures: Tensor, path: Path) -> None:
    """Saves a small grid of uint8 pictures (2 n, C, H, W), n of them in a row."""
    framed = F.pad(pictures, (1, 1, 1, 1), value=255).expand(-1, 3, -1, -1)
    rows = framed.unflatten(0, (2, -1)).permute(0, 3, 1, 4, 2)  # (2, H, n, W, RGB)
    image = Image.fromarray(rows.flatten(2, 3).flatten(0, 1).numpy())
    image = image.resize((image.width * ENLARGED, image.height * ENLARGED), resample=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def log_grid(path: Path, log: StageRun) -> None:
    """Logs a grid that `save_grid` wrote as step_NNNNNN.png."""
    with Image.open(path) as image:
        log.log_image("painted", image, int(path.stem.removeprefix("step_")))


@dataclass(frozen=True)
class DecoderTask:
    """What the decoder learns from.

    Attributes:
        data: the prepared data set.
        embeddings: CLIP's.
        decoder: the params.
        device: where it computes.
        share: which rows of a batch this process computes.
        config: what the UNet is built from.
        train: pictures to learn.
        val: pictures that measure the loss.
        text_tokens: (K, L) int64, the distinct captions.
        text_mask: (K, L) bool.
        diffusion: its schedule, and what the UNet predicts.
        batches: which pictures a step learns from.
    """

    data: Prepared
    embeddings: Embeddings
    decoder: DecoderParams
    device: str
    share: Share
    config: dict[str, Any]
    train: PreparedSplit
    val: PreparedSplit
    text_tokens: Tensor
    text_mask: Tensor
    diffusion: Diffusion
    batches: ShuffledBatches

    @classmethod
    def of(cls, layout: Layout, decoder: DecoderParams, machine: Machine) -> "DecoderTask":
        """Returns the task of a workspace."""
        data = Prepared(layout.prepared)
        clip = describe(layout.model("clip"), "clip")
        config = {key: getattr(decoder, key) for key in MODEL_KEYS}
        config |= {key: clip.config[key] for key in ("embed_dim", "text_length")}
        config |= {"image_size": data.image_size, "in_channels": data.channels}
        config |= {"vocab_size": VOCAB_SIZE}
        train, val = data.split("train"), data.split("val", decoder.val_pictures)
        return cls(
            data,
            Embeddings(layout.embeddings),
            decoder,
            machine.device,
            Share.of(machine.accelerator),
            config,
            train,
            val,
            *trim_padding(*tokenize(data.captions, config["text_length"])),
            Diffusion.of(decoder),
            ShuffledBatches(len(train), decoder.batch_size, decoder.seed, STAGE),
        )

    def new_model(self) -> UNet:
        """Returns the UNet with its first, seeded weights."""
        torch.manual_seed(derive_seed(self.decoder.seed, f"{STAGE} weights"))
        return UNet(**self.config)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, some of its conditions dropped, each for itself."""
        index, draws = self.batches(step), generator(self.decoder.seed, f"{STAGE} draws", step)
        chances = torch.rand(3, len(index), generator=draws)
        wholes = (index, *chances, *self._draw(len(index), draws))
        index, drop_image, drop_caption, mirror, t, noise = map(self.share.rows, wholes)
        images, image_embeds = self.train.gather(index), self._train_embeds(index)
        if self.decoder.flip and self.data.allow_flip:
            is_mirrored = mirror < 0.5
            images[is_mirrored] = images[is_mirrored].flip(-1)
            image_embeds[is_mirrored] = self._train_embeds(index[is_mirrored], flipped=True)
        conditions = {
            "image_embeds": image_embeds,
            **self._texts(self.train.caption_index[index]),
            "drop_mask": drop_image < self.decoder.image_drop_prob,
            "text_drop_mask": drop_caption < self.decoder.caption_drop_prob,
        }
        return self._loss(model, images, conditions, t, noise)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss on validation pictures, nothing dropped, always with the same noise."""
        losses = []
        batches = torch.arange(len(self.val)).split(VALIDATION_BATCH)
        for i, index in self.share.turns(batches):
            keep = torch.zeros(len(index), dtype=torch.bool)
            conditions = {**self._val_conditions(index), "drop_mask": keep, "text_drop_mask": keep}
            draws = generator(self.decoder.seed, f"{STAGE} validation", i)
            t, noise = self._draw(len(index), draws)
            loss = self._loss(model, self.val.gather(index), conditions, t, noise)
            losses.append(float(loss) * len(index))
        return {"val_loss": self.share.total(sum(losses)) / len(self.val)}

    def paint(self, model: nn.Module) -> Tensor:
        """Returns real validation pictures and below them what their embeddings are painted as.

        uint8, (2 n, C, H, W). One picture a caption as far as captions go; always the same ones
        with the same noise.
        """
        index = _one_of_each(self.val.caption_index, PAINTED)
        conditions = self._val_conditions(index)
        decoder, size = self.decoder, self.data.image_size
        low, high = self.data.normalisation.value_range()
        steps = reverse_diffusion(
            model,
            {name: tensor.to(self.device) for name, tensor in conditions.items()},
            [generator(decoder.seed, f"{STAGE} painting", i) for i in range(len(index))],
            (self.data.channels, size, size),
            self.diffusion,
            Solver("dpmpp_2m", decoder.paint_steps, 0.0, decoder.paint_guidance),
            device=self.device,
            x_start_range=(low.to(self.device), high.to(self.device)),
        )
        return torch.cat(
            [self.val.gather(index), self.data.normalisation.to_uint8(final(steps).cpu())]
        )

    def _draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns timesteps (count,) and noise (count, C, H, W)."""
        t = self.diffusion.draw_timesteps(count, draws)
        size = self.data.image_size
        return t, torch.randn(count, self.data.channels, size, size, generator=draws)

    def _train_embeds(self, index: Tensor, *, flipped: bool = False) -> Tensor:
        embeds = self.embeddings.images("train", flipped=flipped)
        return torch.from_numpy(embeds[index.numpy()])

    def _texts(self, captions: Tensor) -> dict[str, Tensor]:
        """Returns what the caption encoder reads; nothing where there is none."""
        if self.decoder.caption_depth == 0:
            return {}
        return {"text_tokens": self.text_tokens[captions], "text_mask": self.text_mask[captions]}

    def _val_conditions(self, index: Tensor) -> dict[str, Tensor]:
        embeds = torch.from_numpy(self.embeddings.images("val")[index.numpy()])
        return {"image_embeds": embeds, **self._texts(self.val.caption_index[index])}

    def _loss(
        self,
        model: nn.Module,
        images: Tensor,
        conditions: dict[str, Tensor],
        t: Tensor,
        noise: Tensor,
    ) -> Tensor:
        on_device = {name: to_device(each, self.device) for name, each in conditions.items()}
        return self.diffusion.loss(
            lambda x_t, t: model(x_t, t, **on_device),
            self.data.normalisation.normalise(to_device(images, self.device)),
            to_device(t, self.device),
            to_device(noise, self.device),
        )


def _one_of_each(captions: Tensor, count: int) -> Tensor:
    """Returns the indices of `count` pictures, the first of each caption before any second."""
    order = sorted(range(len(captions)), key=_rank_within_caption(captions).__getitem__)
    return torch.tensor(order[:count])


def _rank_within_caption(captions: Tensor) -> list[int]:
    seen: dict[int, int] = {}
    ranks = []
    for caption in captions.tolist():
        ranks.append(seen.get(caption, 0))
        seen[caption] = ranks[-1] + 1
    return ranks


if __name__ == "__main__":
    main(STAGE, run, is_shared=True)

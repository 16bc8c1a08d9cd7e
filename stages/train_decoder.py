"""Trains the diffusion decoder on pictures and their own CLIP embeddings (unCLIP §2.1).

It never meets the prior: when painting, the prior's embedding takes the place of the real one.
"""

import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import describe, write_metrics
from unclip.core.device import Machine, open_machine
from unclip.core.seeding import generator
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.data.tokenizer import VOCAB_SIZE, tokenize, trim_padding
from unclip.diffusion.process import Diffusion
from unclip.diffusion.reverse import Solver, final, reverse_diffusion
from unclip.models.unet import UNet
from unclip.params.sections import DecoderParams
from unclip.running.stage import main
from unclip.tracking.live import StageRun
from unclip.training.fit import Hook
from unclip.training.run import trained
from unclip.training.task import Task

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
    task = DecoderTask.of(layout, decoder, open_machine(decoder.precision))
    made = layout.painted_in_training
    if task.share.leads:
        shutil.rmtree(made, ignore_errors=True)

    def painting(log: StageRun) -> tuple[Hook, ...]:
        def paint(step: int, model: nn.Module) -> None:
            with task.machine.accelerator.autocast():
                painted = task.paint(model)
            path = made / f"step_{step:06d}.png"
            save_grid(painted, path)
            log_grid(path, log)

        def log_again() -> None:
            for path in sorted(made.glob("*.png")):
                log_grid(path, log)

        return (Hook(decoder.paint_every, paint, log_again),)

    with trained(task, layout, hooks=painting, made=made) as (fitted, _):
        data = task.data
        facts = {"diffusion": asdict(task.diffusion), "mean": data.mean, "std": data.std}
        task.save(layout, fitted.weights, facts)
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
class DecoderTask(Task[DecoderParams]):
    """What the decoder learns from: pictures, their embeddings, and possibly their captions.

    Attributes:
        embeddings: CLIP's.
        text_tokens: (K, L) int64, the distinct captions.
        text_mask: (K, L) bool.
        diffusion: its schedule, and what the UNet predicts.
    """

    stage = STAGE
    network = UNet

    embeddings: Embeddings
    text_tokens: Tensor
    text_mask: Tensor
    diffusion: Diffusion

    @classmethod
    def of(cls, layout: Layout, decoder: DecoderParams, machine: Machine) -> "DecoderTask":
        """Returns the task of a workspace."""
        data = Prepared(layout.prepared)
        clip = describe(layout.model("clip"), "clip")
        config = {key: getattr(decoder, key) for key in MODEL_KEYS} | {
            "embed_dim": clip.config["embed_dim"],
            "text_length": clip.config["text_length"],
            "image_size": data.image_size,
            "in_channels": data.channels,
            "vocab_size": VOCAB_SIZE,
        }
        train, val = data.split("train"), data.split("val", decoder.val_pictures)
        return cls(
            *(data, decoder, machine, config, train, val),
            Embeddings(layout.embeddings),
            *trim_padding(*tokenize(data.captions, config["text_length"])),
            Diffusion.of(decoder),
        )

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step, each condition dropped independently."""
        index, draws = self.batches(step), generator(self.params.seed, f"{STAGE} draws", step)
        chances = torch.rand(3, len(index), generator=draws)
        wholes = (index, *chances, *self._draw(len(index), draws))
        index, drop_image, drop_caption, mirror, t, noise = map(self.share.rows, wholes)
        images, image_embeds = self.train.gather(index), self._embeds("train", index)
        if self.params.flip and self.data.allow_flip:
            is_mirrored = mirror < 0.5
            images[is_mirrored] = images[is_mirrored].flip(-1)
            image_embeds[is_mirrored] = self._embeds("train", index[is_mirrored], flipped=True)
        conditions = {
            "image_embeds": image_embeds,
            **self._texts(self.train.caption_index[index]),
            "drop_mask": drop_image < self.params.image_drop_prob,
            "text_drop_mask": drop_caption < self.params.caption_drop_prob,
        }
        return self._loss(model, images, conditions, t, noise)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss on validation pictures, nothing dropped, always with the same noise."""

        def loss_of(batch: int, index: Tensor) -> Tensor:
            keep = torch.zeros(len(index), dtype=torch.bool)
            conditions = {**self._val_conditions(index), "drop_mask": keep, "text_drop_mask": keep}
            draws = generator(self.params.seed, f"{STAGE} validation", batch)
            t, noise = self._draw(len(index), draws)
            return self._loss(model, self.val.gather(index), conditions, t, noise)

        return {"val_loss": self.share.mean_loss(loss_of, len(self.val), VALIDATION_BATCH)}

    def paint(self, model: nn.Module) -> Tensor:
        """Returns real validation pictures, and below them what is painted from their embeddings.

        uint8, (2 n, C, H, W). The same pictures and noise every time, of as many captions as there
        is room for.
        """
        index = _one_of_each(self.val.caption_index, PAINTED)
        conditions = self._val_conditions(index)
        params, size, device = self.params, self.data.image_size, self.machine.device
        low, high = self.data.normalisation.value_range()
        steps = reverse_diffusion(
            model,
            {name: tensor.to(device) for name, tensor in conditions.items()},
            [generator(params.seed, f"{STAGE} painting", i) for i in range(len(index))],
            (self.data.channels, size, size),
            self.diffusion,
            Solver("dpmpp_2m", params.paint_steps, 0.0, params.paint_guidance),
            device=device,
            x_start_range=(low.to(device), high.to(device)),
        )
        return torch.cat(
            [self.val.gather(index), self.data.normalisation.to_uint8(final(steps).cpu())]
        )

    def _draw(self, count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Returns timesteps (count,) and noise (count, C, H, W)."""
        t = self.diffusion.draw_timesteps(count, draws)
        size = self.data.image_size
        return t, torch.randn(count, self.data.channels, size, size, generator=draws)

    def _embeds(self, split: str, index: Tensor, *, flipped: bool = False) -> Tensor:
        return torch.from_numpy(self.embeddings.images(split, flipped=flipped)[index.numpy()])

    def _texts(self, captions: Tensor) -> dict[str, Tensor]:
        """Returns the input of the caption encoder, if there is one."""
        if self.params.caption_depth == 0:
            return {}
        return {"text_tokens": self.text_tokens[captions], "text_mask": self.text_mask[captions]}

    def _val_conditions(self, index: Tensor) -> dict[str, Tensor]:
        texts = self._texts(self.val.caption_index[index])
        return {"image_embeds": self._embeds("val", index), **texts}

    def _loss(
        self,
        model: nn.Module,
        images: Tensor,
        conditions: dict[str, Tensor],
        t: Tensor,
        noise: Tensor,
    ) -> Tensor:
        conditions = {name: self.on_device(each) for name, each in conditions.items()}
        images, t, noise = map(self.on_device, (images, t, noise))
        x_start = self._stretched(images)
        return self.diffusion.loss(lambda x_t, t: model(x_t, t, **conditions), x_start, t, noise)

    def _stretched(self, images: Tensor) -> Tensor:
        """Returns normalised pictures whose pure black and white lie beyond the range.

        The network's small errors about them are then cut off when painting clips to the range, and
        plain ground comes out pure instead of grained.
        """
        x_start, stretch = self.data.normalisation.normalise(images), self.params.stretch
        step = x_start.new_tensor(self.data.std)[:, None, None] * 255  # grey levels of 1
        return x_start + stretch / step * ((images == 255).float() - (images == 0).float())


def _one_of_each(captions: Tensor, count: int) -> Tensor:
    """Returns the indices of `count` pictures, the first of each caption before any second."""
    seen: Counter[int] = Counter()
    ranks = []
    for caption in captions.tolist():
        ranks.append(seen[caption])
        seen[caption] += 1
    order = sorted(range(len(captions)), key=ranks.__getitem__)
    return torch.tensor(order[:count])


if __name__ == "__main__":
    main(STAGE, run, is_shared=True)

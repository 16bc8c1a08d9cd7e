"""Trains CLIP, then embeds every picture and every distinct caption with it, once and for all."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import build, write_metrics
from unclip.core.device import Machine, open_machine
from unclip.core.seeding import generator
from unclip.data.embeddings import Embeddings, write_captions, write_images
from unclip.data.prepared import Prepared, PreparedSplit
from unclip.data.text import split_words
from unclip.data.tokenizer import VOCAB_SIZE, tokenize, trim_padding
from unclip.models.clip import CLIP, contrastive_loss
from unclip.params.sections import ClipParams
from unclip.running.progress import track
from unclip.running.stage import main
from unclip.training.augment import augment, drop_words, is_part_of
from unclip.training.run import trained
from unclip.training.task import Task

STAGE = "train_clip"
MODEL_KEYS = (
    *("patch_size", "embed_dim", "vision_dim", "vision_depth", "vision_heads"),
    *("text_dim", "text_depth", "text_heads", "text_length", "dropout"),
)
EMBED_BATCH = 125  # pictures; changes speed and memory only
READ_BATCH = 1000  # captions; likewise
MOST_WORDS = 5000  # that the artifact lists, so that prompts never trained can be told
MOST_CAPTIONS = 4000  # likewise; of more it lists none
FEW_CAPTIONS = 1000  # zero-shot accuracy compares each picture with every caption


def run(layout: Layout, clip: ClipParams) -> None:
    """Writes models/clip, data/embeddings, metrics and history."""
    task = ClipTask.of(layout, clip, open_machine(clip.precision))
    data = task.data
    with trained(task, layout) as (fitted, log):
        facts = {"dataset": data.name, "prompts": data.prompts} | trained_texts(data)
        artifact = task.save(layout, fitted.weights, facts)
        model = build(artifact, CLIP, layout.model("clip")).to(task.machine.device)
        task.embed_all(model, layout.embeddings)
        zero_shot = test_figures(data, Embeddings(layout.embeddings))
        figures = {f"val_{k.removeprefix('val_')}": v for k, v in fitted.metrics.items()}
        write_metrics(layout.metrics(STAGE), figures | zero_shot)
        log.log_metrics(clip.train_steps, zero_shot)


def trained_texts(data: Prepared) -> dict[str, list[str]]:
    """Returns the training captions, none if they are too many, and their most frequent words."""
    counts = data.split("train").caption_index.bincount(minlength=len(data.captions))
    shown = [(data.captions[i], count) for i, count in enumerate(counts.tolist()) if count > 0]
    words: Counter[str] = Counter()
    for caption, count in shown:
        words.update(dict.fromkeys(split_words(caption), count))
    captions = [caption for caption, _ in shown] if len(shown) <= MOST_CAPTIONS else []
    return {
        "captions": captions,
        "words": sorted(word for word, _ in words.most_common(MOST_WORDS)),
    }


@dataclass(frozen=True)
class ClipTask(Task[ClipParams]):
    """What CLIP learns from: pictures and their captions.

    Attributes:
        tokens: (K, L) int64, the data set's distinct captions, on the device.
        mask: (K, L) bool.
    """

    stage = STAGE
    network = CLIP

    tokens: Tensor
    mask: Tensor

    @classmethod
    def of(cls, layout: Layout, clip: ClipParams, machine: Machine) -> "ClipTask":
        """Returns the task of a workspace."""
        data = Prepared(layout.prepared)
        config = {key: getattr(clip, key) for key in MODEL_KEYS} | {
            "image_size": data.image_size,
            "in_channels": data.channels,
            "vocab_size": VOCAB_SIZE,
        }
        train, val = data.split("train"), data.split("val", clip.val_pictures)
        tokens, mask = trim_padding(*tokenize(data.captions, clip.text_length))
        tokens, mask = tokens.to(machine.device), mask.to(machine.device)
        return cls(data, clip, machine, config, train, val, tokens, mask)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step: augmented pictures against their distinct captions.

        It needs the embeddings of the whole batch, so processes that share it exchange theirs.
        """
        params, index = self.params, self.batches(step)
        draws = generator(params.seed, f"{STAGE} augmentation", step)
        flip = params.flip and self.data.allow_flip
        pictures = self.train.gather(index)
        pictures = augment(pictures, draws, flip=flip, crop_padding=params.crop_padding)
        tokens, mask, is_own = self._captions(self.train.caption_index[index], draws)
        images = self.data.normalisation.normalise(self.on_device(self.share.rows(pictures)))
        own = self.on_device(self.share.some_of(len(tokens)))
        image_embeds, text_embeds, scale = model(images, tokens[own], mask[own])
        image_embeds = self.share.gathered(image_embeds)
        text_embeds = self.share.gathered(text_embeds)[: len(tokens)]
        return contrastive_loss(image_embeds, text_embeds, is_own, scale)

    def _captions(self, own: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Returns tokens, mask and is_own of a batch's captions, some of their words left out."""
        if self.params.word_dropout == 0:
            captions, is_own = self._distinct(own)
            return self.tokens[captions], self.mask[captions], is_own
        whole = [self.data.captions[caption] for caption in own.tolist()]
        parts = list(dict.fromkeys(drop_words(whole, self.params.word_dropout, draws)))
        tokens, mask = trim_padding(*tokenize(parts, self.params.text_length))
        is_own = is_part_of(parts, whole)
        return self.on_device(tokens), self.on_device(mask), self.on_device(is_own)

    def _distinct(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the distinct captions (K,) of pictures, and is_own (B, K) bool."""
        captions = own.unique()
        return self.on_device(captions), self.on_device(own[:, None] == captions)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss in fixed batches and, where captions are few, zero-shot accuracy."""
        assert isinstance(model, CLIP)
        embeds, own = torch.cat(list(self._embed(model, self.val))), self.val.caption_index
        text_embeds = torch.cat([embeds for embeds, _ in self._read(model)])
        losses = []
        for rows in torch.arange(len(own)).split(self.params.batch_size):
            captions, is_own = self._distinct(own[rows])
            loss = contrastive_loss(embeds[rows], text_embeds[captions], is_own, model.scale)
            losses.append(float(loss) * len(rows))
        figures = {"val_loss": sum(losses) / len(own)}
        if len(self.data.captions) <= FEW_CAPTIONS:
            is_right = _is_nearest(embeds.cpu(), text_embeds.cpu(), own)
            figures["zero_shot_accuracy"] = float(is_right.mean())
        return figures

    def _embed(
        self, model: CLIP, pictures: PreparedSplit, flipped: bool = False
    ) -> Iterator[Tensor]:
        """Yields the embeddings of pictures in order, (B, D) float32, some at a time."""
        for start in range(0, len(pictures), EMBED_BATCH):
            batch = torch.from_numpy(np.array(pictures.images[start : start + EMBED_BATCH]))
            images = self.data.normalisation.normalise(batch.to(self.machine.device))
            yield model.encode_image(images.flip(-1) if flipped else images).float()

    def _read(self, model: CLIP) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields embeddings (B, D) and encodings (B, L, text_dim) of the captions, in order."""
        pieces = (tensor.split(READ_BATCH) for tensor in (self.tokens, self.mask))
        for tokens, mask in zip(*pieces, strict=True):
            yield model.encode_text(tokens, mask)

    @torch.inference_mode()
    def embed_all(self, model: CLIP, folder: Path) -> None:
        """Writes all embeddings; captions are embedded in float32, as new prompts are."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_captions(folder, self.mask, self.params.text_dim, self._read(model))
        splits = [(split, False) for split in ("train", "val", "test")]
        if self.params.embed_flipped and self.data.allow_flip:
            splits += [("train", True), ("val", True)]
        for split, flipped in track(splits, folder.name, len(splits)):
            pictures = self.data.split(split)
            shape = (len(pictures), self.params.embed_dim)
            with self.machine.accelerator.autocast():
                write_images(folder, split, flipped, shape, self._embed(model, pictures, flipped))


def test_figures(data: Prepared, embeddings: Embeddings) -> dict[str, float]:
    """Returns the zero-shot accuracies on the test pictures; none where captions are many."""
    if len(data.captions) > FEW_CAPTIONS:
        return {}
    own = data.split("test").caption_index
    held_out = torch.isin(own, torch.tensor(data.held_out_captions, dtype=torch.int64))
    image_embeds = torch.from_numpy(np.array(embeddings.images("test")))
    is_right = _is_nearest(image_embeds, embeddings.captions, own)
    figures = {"zero_shot_accuracy": float(is_right[~held_out].mean())}
    if held_out.any():
        figures["zero_shot_accuracy_held_out"] = float(is_right[held_out].mean())
    return figures


def _is_nearest(image_embeds: Tensor, text_embeds: Tensor, own: Tensor) -> Tensor:
    """Returns 1 for each picture that is nearest to its own caption and 0 for others, (N,)."""
    return (image_embeds.float() @ text_embeds.float().T).argmax(dim=1).eq(own).float()


if __name__ == "__main__":
    main(STAGE, run, is_shared=True)

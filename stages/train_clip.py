"""Trains CLIP, then embeds every picture and every distinct caption with it, once and for all."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unclip.config.layout import Layout
from unclip.core.artifacts import Artifact, build, file_hash, save_artifact, write_metrics
from unclip.core.device import Machine, open_machine, to_device
from unclip.core.npy import create_npy
from unclip.core.seeding import derive_seed, generator
from unclip.data.prepared import Prepared, PreparedSplit
from unclip.data.tokenizer import VOCAB_SIZE, split_words, tokenize, trim_padding
from unclip.models.clip import CLIP, contrastive_loss
from unclip.params.sections import ClipParams
from unclip.running.progress import track
from unclip.running.stage import main
from unclip.training.augment import augment, drop_words, is_part_of
from unclip.training.batches import ShuffledBatches
from unclip.training.run import trained
from unclip.training.share import Share

STAGE = "train_clip"
MODEL_KEYS = (
    *("patch_size", "embed_dim", "vision_dim", "vision_depth", "vision_heads"),
    *("text_dim", "text_depth", "text_heads", "text_length", "dropout"),
)
EMBED_BATCH = 125  # pictures; changes speed and memory only
READ_BATCH = 1000  # captions; likewise
MOST_WORDS = 5000  # that the artifact names, so that unknown words of a prompt can be told
FEW_CAPTIONS = 1000  # zero-shot accuracy compares each picture with every caption


def run(layout: Layout, clip: ClipParams) -> None:
    """Writes models/clip, data/embeddings, metrics and history."""
    machine = open_machine(clip.precision)
    task = Task.of(layout, clip, machine)
    data = task.data
    other_bytes = task.num_embedded_bytes()
    with trained(STAGE, task, clip, layout, machine, other_bytes=other_bytes) as (fitted, log):
        inputs = {"data": file_hash(layout.prepared / "dataset.json")}
        facts = {"dataset": data.name, "prompts": data.prompts, "words": trained_words(data)}
        artifact = Artifact("clip", task.config, fitted.weights, facts, inputs)
        save_artifact(layout.model("clip"), artifact)
        model = build(artifact, CLIP, layout.model("clip")).to(machine.device)
        assert isinstance(model, CLIP)
        zero_shot = task.embed_all(model, layout)
        figures = {f"val_{k.removeprefix('val_')}": v for k, v in fitted.metrics.items()}
        write_metrics(layout.metrics(STAGE), figures | zero_shot)
        log.log_metrics(clip.train_steps, zero_shot)


def trained_words(data: Prepared) -> list[str]:
    """Returns the most frequent words of the training captions, at most MOST_WORDS, sorted."""
    counts = data.split("train").caption_index.bincount(minlength=len(data.captions))
    words: Counter[str] = Counter()
    for caption, count in zip(data.captions, counts.tolist(), strict=True):
        words.update(dict.fromkeys(split_words(caption), count))
    return sorted(word for word, count in words.most_common(MOST_WORDS) if count > 0)


@dataclass(frozen=True)
class Task:
    """What CLIP learns from.

    Attributes:
        data: the prepared data set.
        clip: the params.
        machine: device and precision.
        share: which rows of a batch this process embeds.
        config: what CLIP is built from.
        tokens: (K, L) int64, the data set's distinct captions, on the device.
        mask: (K, L) bool.
        batches: which pictures a step learns from.
        train: pictures to learn.
        val: pictures that measure the loss.
    """

    data: Prepared
    clip: ClipParams
    machine: Machine
    share: Share
    config: dict[str, Any]
    tokens: Tensor
    mask: Tensor
    batches: ShuffledBatches
    train: PreparedSplit
    val: PreparedSplit

    @classmethod
    def of(cls, layout: Layout, clip: ClipParams, machine: Machine) -> "Task":
        """Returns the task of a workspace."""
        data = Prepared(layout.prepared)
        config = {key: getattr(clip, key) for key in MODEL_KEYS}
        config |= {"image_size": data.image_size, "in_channels": data.channels}
        config |= {"vocab_size": VOCAB_SIZE}
        tokens, mask = trim_padding(*tokenize(data.captions, clip.text_length))
        tokens, mask = tokens.to(machine.device), mask.to(machine.device)
        train, val = data.split("train"), data.split("val", clip.val_pictures)
        batches = ShuffledBatches(len(train), clip.batch_size, clip.seed, STAGE)
        share = Share.of(machine.accelerator)
        return cls(data, clip, machine, share, config, tokens, mask, batches, train, val)

    def new_model(self) -> CLIP:
        """Returns CLIP with its first, seeded weights."""
        torch.manual_seed(derive_seed(self.clip.seed, f"{STAGE} weights"))
        return CLIP(**self.config)

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """Returns the loss of a step: augmented pictures against the distinct captions of them.

        It needs the embeddings of the whole batch, so processes that share it exchange theirs.
        """
        index, draws = self.batches(step), generator(self.clip.seed, f"{STAGE} augmentation", step)
        pictures = augment(
            self.train.gather(index),
            draws,
            flip=self.clip.flip and self.data.allow_flip,
            crop_padding=self.clip.crop_padding,
        )
        tokens, mask, is_own = self._captions(self.train.caption_index[index], draws)
        images = self.data.normalise(to_device(self.share.rows(pictures), self.machine.device))
        own = to_device(self.share.some_of(len(tokens)), self.machine.device)
        image_embeds, text_embeds, scale = model(images, tokens[own], mask[own])
        image_embeds = self.share.gathered(image_embeds)
        text_embeds = self.share.gathered(text_embeds)[: len(tokens)]
        return contrastive_loss(image_embeds, text_embeds, is_own, scale)

    def _captions(self, own: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Returns tokens, mask and is_own of a batch's captions, some of their words left out."""
        if self.clip.word_dropout == 0:
            captions, is_own = self._distinct(own)
            return self.tokens[captions], self.mask[captions], is_own
        whole = [self.data.captions[caption] for caption in own.tolist()]
        parts = list(dict.fromkeys(drop_words(whole, self.clip.word_dropout, draws)))
        tokens, mask = trim_padding(*tokenize(parts, self.clip.text_length))
        made = (tokens, mask, is_part_of(parts, whole))
        tokens, mask, is_own = (to_device(each, self.machine.device) for each in made)
        return tokens, mask, is_own

    def _distinct(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the distinct captions (K,) of pictures and which is whose, (B, K) bool."""
        captions = own.unique()
        is_own = own[:, None] == captions
        device = self.machine.device
        return to_device(captions, device), to_device(is_own, device)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Returns the loss in fixed batches and, where captions are few, zero-shot accuracy."""
        assert isinstance(model, CLIP)
        embeds, own = torch.cat(list(self._embed(model, self.val))), self.val.caption_index
        text_embeds = torch.cat([embeds for embeds, _ in self._read(model)])
        losses = []
        for rows in torch.arange(len(own)).split(self.clip.batch_size):
            captions, is_own = self._distinct(own[rows])
            loss = contrastive_loss(embeds[rows], text_embeds[captions], is_own, model.scale)
            losses.append(float(loss) * len(rows))
        figures = {"val_loss": sum(losses) / len(own)}
        if len(self.data.captions) <= FEW_CAPTIONS:
            figures["zero_shot_accuracy"] = _share_nearest(embeds.cpu(), text_embeds.cpu(), own)
        return figures

    def _embed(
        self, model: CLIP, pictures: PreparedSplit, flipped: bool = False
    ) -> Iterator[Tensor]:
        """Yields the embeddings of pictures in their order, (B, D) float32, some at a time."""
        for start in range(0, len(pictures), EMBED_BATCH):
            batch = torch.from_numpy(np.array(pictures.images[start : start + EMBED_BATCH]))
            images = self.data.normalise(batch.to(self.machine.device))
            yield model.encode_image(images.flip(-1) if flipped else images).float()

    def _read(self, model: CLIP) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields embeddings (B, D) and encodings (B, L, text_dim) of the captions, in order."""
        pieces = (tensor.split(READ_BATCH) for tensor in (self.tokens, self.mask))
        for tokens, mask in zip(*pieces, strict=True):
            yield model.encode_text(tokens, mask)

    def _embedded_splits(self) -> list[tuple[str, bool]]:
        """Returns the splits to embed, each with whether it is the mirrored pictures of it."""
        mirrored = self.clip.embed_flipped and self.data.allow_flip
        plain = [(split, False) for split in ("train", "val", "test")]
        return plain + [(split, True) for split in ("train", "val") if mirrored]

    def num_embedded_bytes(self) -> int:
        """Returns how many bytes `embed_all` writes, about."""
        pictures = sum(len(self.data.split(split)) for split, _ in self._embedded_splits())
        encodings = self.tokens.numel() * self.clip.text_dim
        return 4 * (pictures * self.clip.embed_dim + encodings)

    @torch.inference_mode()
    def embed_all(self, model: CLIP, layout: Layout) -> dict[str, float]:
        """Writes all embeddings; returns the zero-shot accuracy on the test pictures.

        In float32: the text tower will embed new prompts in float32 too, alone.
        """
        folder = layout.embeddings
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        text_embeds = self._write_texts(model, folder)
        jobs = self._embedded_splits()
        for split, flipped in track(jobs, "embedding", len(jobs)):
            path = folder / (f"{split}_flipped.npy" if flipped else f"{split}.npy")
            pictures = self.data.split(split)
            shape = (len(pictures), self.clip.embed_dim)
            with create_npy(path, shape, np.float32) as file, self.machine.accelerator.autocast():
                for embeds in self._embed(model, pictures, flipped):
                    file.write(embeds.cpu().numpy().tobytes())
        test_embeds = torch.from_numpy(np.load(folder / "test.npy"))
        return self._test_accuracy(test_embeds, text_embeds)

    def _write_texts(self, model: CLIP, folder: Path) -> Tensor:
        """Writes what the text tower makes of the captions; returns their embeddings (K, D)."""
        shape = (*self.mask.shape, self.clip.text_dim)
        parts = []
        with create_npy(folder / "caption_encodings.npy", shape, np.float32) as file:
            for embeds, encodings in self._read(model):
                file.write(encodings.cpu().numpy().tobytes())
                parts.append(embeds.cpu())
        text_embeds = torch.cat(parts)
        np.save(folder / "captions.npy", text_embeds.numpy())
        np.save(folder / "caption_mask.npy", self.mask.cpu().numpy())
        return text_embeds

    def _test_accuracy(self, embeds: Tensor, text_embeds: Tensor) -> dict[str, float]:
        if len(self.data.captions) > FEW_CAPTIONS:
            return {}
        own = self.data.split("test").caption_index
        held_out = torch.isin(own, torch.tensor(self.data.held_out_captions, dtype=torch.int64))
        figures = {"zero_shot_accuracy": _share_nearest(embeds, text_embeds, own, ~held_out)}
        if held_out.any():
            accuracy = _share_nearest(embeds, text_embeds, own, held_out)
            figures["zero_shot_accuracy_held_out"] = accuracy
        return figures


def _share_nearest(
    image_embeds: Tensor, text_embeds: Tensor, own: Tensor, among: Tensor | None = None
) -> float:
    """Returns the share of pictures (of those in `among`) nearest to their own caption."""
    correct = (image_embeds.float() @ text_embeds.float().T).argmax(dim=1).eq(own)
    return float((correct if among is None else correct[among]).float().mean())


if __name__ == "__main__":
    main(STAGE, run, is_shared=True)

"""The user's own pictures: a folder of them with metadata.jsonl or metadata.csv beside them."""

import re
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from unclip.config.strict import short
from unclip.datasets.base import Context, Dataset, DatasetSource
from unclip.datasets.metadata import find_metadata

OWN_FOLDER = re.compile(r"[\w][\w .-]*(/[\w][\w .-]*)*")  # neither absolute nor upwards
MADE = ("data/prepared", "data/embeddings", "history", "metrics", "models", "plots", "samples")


class ImageFolder(Dataset):
    """Where the pictures are, and what else they do not say themselves.

    No caption is held out: which of them training never shows depends on how many there are, and
    is nothing that was set up to be measured.
    """

    folder: str  # below the repository
    test_fraction: Annotated[float, Field(gt=0.0, le=0.5)]  # set apart, without a column `split`
    allow_flip: bool  # whether a mirrored picture could be one of these

    @field_validator("folder")
    @classmethod
    def _is_below(cls, folder: str) -> str:
        """Returns the folder if DVC can depend on it, here and on another machine."""
        if not OWN_FOLDER.fullmatch(folder):
            raise ValueError(
                f"{short(folder)} is not allowed; expected a folder below this repository, named "
                "from it, such as data/own"
            )
        one, others = f"{folder}/", [f"{made}/" for made in MADE]
        if any(other.startswith(one) or one.startswith(other) for other in others):
            raise ValueError(
                f"{short(folder)} holds what the pipeline makes, or lies in it; expected a folder "
                "of its own, such as data/own"
            )
        return folder

    def load(self, context: Context) -> DatasetSource:
        """Returns the data set; its metadata are checked, and a picture is decoded when read.

        Raises:
            UserError: a line for each thing that is wrong with the metadata.
        """
        from unclip.datasets.own_folder import (
            choose_test,
            default_prompts,
            read_folder,
            stop_if_any,
        )

        problems: list[str] = []
        own = read_folder(context.root / self.folder, context.text_length, problems)
        test = choose_test(own, self.test_fraction, context.seed, problems)
        stop_if_any(problems, own.folder)
        for note in own.notes:
            print(f"{own.metadata}: {note}", file=sys.stderr)
        return DatasetSource(
            captions=own.captions,
            attribute_names=own.attributes.names,
            attribute_values=own.attributes.values,
            caption_attributes=own.attributes.of_captions,
            held_out_captions=[],
            prompts=default_prompts(own, test),
            allow_flip=self.allow_flip,
            train=own.split(~test, context.image_size, context.seed),
            test=own.split(test, context.image_size, context.seed),
        )

    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns which file describes the pictures."""
        metadata = find_metadata(root / self.folder)
        return f"{metadata} is there; `python cli.py data check {self.folder}` looks into it"

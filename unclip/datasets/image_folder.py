"""The user's own pictures: a folder of them that says what they show."""

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from unclip.config.strict import short
from unclip.datasets.base import Context, Dataset, DatasetSource

# Not absolute, not hidden, no "..", and nothing that DVC takes for a URL or a value.
OWN_FOLDER = re.compile(r"(?![.~])[^/\\:$\0-\x1f]+(/(?![.~])[^/\\:$\0-\x1f]+)*")
MADE = ("data/prepared", "data/embeddings", "history", "metrics", "models", "plots", "samples")


class ImageFolder(Dataset):
    """The user's own pictures. No caption is held out."""

    folder: str  # below the repository
    test_fraction: Annotated[float, Field(gt=0.0, le=0.5)]  # used without a column `split`
    caption: str  # of class folders; {} becomes the name of the class
    allow_flip: bool  # whether a mirrored picture could belong to the data set

    @field_validator("folder")
    @classmethod
    def _is_below(cls, folder: str) -> str:
        """Returns the folder, without a slash at its end, if DVC can depend on it everywhere."""
        path = Path(os.path.normpath(folder))
        if not OWN_FOLDER.fullmatch(str(path)):
            raise ValueError(
                f"{short(folder)} is not allowed; expected a folder below this repository, named "
                "from it, such as data/own"
            )
        made = [Path(each) for each in MADE]
        if any(path.is_relative_to(each) or each.is_relative_to(path) for each in made):
            raise ValueError(
                f"{short(folder)} holds what the pipeline makes, or lies in it; expected a folder "
                "of its own, such as data/own"
            )
        return str(path)

    @field_validator("caption")
    @classmethod
    def _names_the_class(cls, caption: str) -> str:
        """Returns the template if captions of two classes differ."""
        if "{}" not in caption:
            raise ValueError(f"{short(caption)} is not allowed; expected {{}} in it, for the class")
        return caption

    def load(self, context: Context) -> DatasetSource:
        """Returns the data set; metadata are checked now, pictures are decoded when read.

        Raises:
            UserError: one line for each mistake in the metadata.
        """
        from unclip.datasets.own_folder import (
            choose_test,
            choose_trained,
            read_folder,
            stop_if_any,
        )
        from unclip.datasets.prompts import default_prompts

        problems: list[str] = []
        own = read_folder(context.root / self.folder, context.text_length, problems, self.caption)
        test = choose_test(own, self.test_fraction, context.seed, problems)
        trained = choose_trained(own, test, context.val_fraction, context.seed, problems)
        stop_if_any(problems, own.folder)
        index = own.caption_index
        known, new = default_prompts(own.captions, index[trained], index[test])
        for note in own.notes:
            print(f"{own.metadata}: {note}", file=sys.stderr)
        return DatasetSource(
            captions=own.captions,
            attribute_names=own.attributes.names,
            attribute_values=own.attributes.values,
            caption_attributes=own.attributes.of_captions,
            held_out_captions=[],
            prompts=known + new,
            allow_flip=self.allow_flip,
            train=own.split(~test, context.image_size, context.seed),
            test=own.split(test, context.image_size, context.seed),
        )

    def status(self, raw_dir: Path, root: Path) -> str:
        """Returns what describes the pictures."""
        from unclip.datasets.metadata import find_metadata

        metadata, convention = find_metadata(root / self.folder)
        check = f"python cli.py data check {shlex.quote(self.folder)}"
        said = f" ({convention})" if metadata.is_dir() else ""
        return f"{metadata} is there{said}; `{check}` checks it"

"""What a user is meant to read of what went wrong."""

from pathlib import Path


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: where, what is wrong, what was expected, what to do. Stages and the
    command line print it without a traceback and exit with a status that is not 0.
    """


TOO_LITTLE_MEMORY = "the device has too little memory; lower batch_size in params.yaml"


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory could not be had, a GPU's or the machine's."""
    is_torchs = type(error).__name__ == "OutOfMemoryError"  # by name: to import torch takes seconds
    return is_torchs or isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def not_finite(stage: str, name: str, value: float, *, step: int, lr: float) -> UserError:
    """Returns what to tell of a training whose numbers are lost.

    Args:
        stage: its name in dvc.yaml.
        name: which number is not finite.
        value: of it.
        step: at which it was met.
        lr: the learning rate there.
    """
    key = stage.removeprefix("train_")
    return UserError(
        f"{stage}: {name} is {value} at step {step}, learning rate {lr:.3g}; "
        f"lower {key}.lr, raise {key}.warmup_steps, or set {key}.precision: fp32"
    )


def no_flipped_embeddings(folder: Path) -> UserError:
    """Returns what to tell where decoder.flip wants embeddings that `folder` does not hold."""
    return UserError(
        f"{folder}: holds no embeddings of mirrored pictures, which decoder.flip needs; "
        "set clip.embed_flipped: true, for a data set that allows flips"
    )

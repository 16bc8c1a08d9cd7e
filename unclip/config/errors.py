"""Errors that users read."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can fix.

    The message is one line: where, what is wrong, what was expected, what to do. Stages and the
    command line print it without a traceback and exit with a non-zero status.
    """


def first_line(error: BaseException | str) -> str:
    """Returns an error's first line, shortened, without passwords in addresses."""
    text = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
    text = re.sub(r"//[^/@\s]*@", "//", text)
    text = text if len(text) <= 240 else text[:237] + "..."
    if re.search(r"getpwuid|home directory", text):  # `docker run --user 12345`
        text += "; this user has no name or home; `export LOGNAME=me HOME=/tmp` gives both"
    return text


TOO_LITTLE_MEMORY = "the device has too little memory; lower batch_size in params.yaml"


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that the GPU or the machine ran out of memory."""
    is_torchs = type(error).__name__ == "OutOfMemoryError"  # by name: importing torch takes seconds
    return is_torchs or isinstance(error, MemoryError) or "can't allocate memory" in str(error)


@contextmanager
def reading(path: Path, made_by: str) -> Iterator[None]:
    """Turns any failure to read an output of a stage into one line that says how to get it.

    Args:
        path: the file or folder that the `with` block reads.
        made_by: the stage that makes it.

    Raises:
        UserError: it is missing, damaged or of another version.
    """
    remedy = (
        f"`dvc checkout` or `dvc pull` restores it, `dvc repro --force {made_by}` makes it anew"
    )
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: is missing; {remedy}") from None
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: is damaged or of another version ({reason}); {remedy}") from None


def require_readable(caption: str, folded: str, text_length: int, reserved: dict[int, str]) -> None:
    """Checks that a caption can be tokenized.

    Args:
        caption: the text.
        folded: what is read of it.
        text_length: the most tokens, including start and end.
        reserved: the bytes that have another meaning, and the meaning.

    Raises:
        UserError: it is empty, not valid text, too long, or contains a reserved byte.
    """
    shown = caption if len(caption) <= 40 else caption[:39] + "…"
    where = f"caption {shown!r}"
    if not folded:
        raise UserError(f"{where}: is empty; expected at least one word; write one")
    try:
        data = folded.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: character {error.start} is half a surrogate pair, which UTF-8 cannot hold; "
            "expected valid text; type it again"
        ) from None
    for token, role in reserved.items():
        if token in data:
            raise UserError(
                f"{where}: byte {data.index(token)} is the control character {token}, which "
                f"stands for {role}; expected text without it; remove it"
            )
    if len(data) + 2 > text_length:
        raise UserError(
            f"{where}: is {len(data)} bytes; expected at most {text_length - 2} (clip.text_length "
            f"{text_length} less start and end); shorten it or raise clip.text_length"
        )


def not_finite(stage: str, name: str, value: float, *, step: int, lr: float) -> UserError:
    """Returns the error for a training stage in which a number, `name`, is not finite."""
    key = stage.removeprefix("train_")
    return UserError(
        f"{stage}: {name} is {value} at step {step}, learning rate {lr:.3g}; "
        f"lower {key}.lr, raise {key}.warmup_steps, or set {key}.precision: fp32"
    )

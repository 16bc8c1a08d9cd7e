"""What a user is meant to read of what went wrong."""

import re


class UserError(Exception):
    """A mistake that the user can mend.

    The message is one line: where, what is wrong, what was expected, what to do. Stages and the
    command line print it without a traceback and exit with a status that is not 0.
    """


def first_line(error: BaseException | str) -> str:
    """Returns an error's first line, short enough to read, without the password of an address."""
    text = " ".join(str(error).strip().split("\n")[0].split()) or type(error).__name__
    text = re.sub(r"//[^/@\s]*@", "//", text)
    return text if len(text) <= 240 else text[:237] + "..."


TOO_LITTLE_MEMORY = "the device has too little memory; lower batch_size in params.yaml"


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory could not be had, a GPU's or the machine's."""
    is_torchs = type(error).__name__ == "OutOfMemoryError"  # by name: to import torch takes seconds
    return is_torchs or isinstance(error, MemoryError) or "can't allocate memory" in str(error)

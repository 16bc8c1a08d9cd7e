"""How text reaches a terminal or a pipe whose encoding does not have every character."""

import io
import sys


def replace_what_cannot_be_shown() -> None:
    """Makes stdout and stderr write "?" for what they cannot encode: cp1252 has no 猫."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

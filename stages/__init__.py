import unclip  # noqa: F401  # before any stage loads torch

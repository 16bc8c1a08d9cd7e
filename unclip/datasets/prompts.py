"""The default prompts of captioned pictures."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MOST_PROMPTS = 8  # rows of the sample grid
MOST_NEW = 2  # of them, captions that training never shows


def default_prompts(
    captions: Sequence[str], trained: npt.NDArray[np.int32], tested: npt.NDArray[np.int32]
) -> tuple[list[str], list[str]]:
    """Returns captions that training shows, and some that only test pictures have.

    Of the former the most frequent come first, then those with a test picture. Equals are taken
    evenly spaced: neighbours in the metadata are often alike.

    Args:
        captions: K captions.
        trained: index into captions of each picture that training shows.
        tested: index into captions of each test picture.
    """
    shown, held = (
        np.bincount(each, minlength=len(captions)).tolist() for each in (trained, tested)
    )
    every = range(len(captions))
    new = _evenly([i for i in every if held[i] and not shown[i]], MOST_NEW)
    num_known = MOST_PROMPTS - len(new)
    ranks = {i: (-shown[i], not held[i]) for i in every if shown[i]}
    last = sorted(ranks.values())[:num_known][-1:]
    known = sorted((i for i in ranks if [ranks[i]] < last), key=ranks.__getitem__)
    known += _evenly([i for i in ranks if [ranks[i]] == last], num_known - len(known))
    return [captions[i] for i in known], [captions[i] for i in new]


def _evenly(items: list[int], at_most: int) -> list[int]:
    count = min(at_most, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]

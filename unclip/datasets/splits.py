"""Which pictures training never sees."""

import numpy as np
import numpy.typing as npt

ENOUGH = 4  # pictures of a caption that can spare a full share
FEWEST = 20  # pictures: evaluation compares one half with the neighbours in the other
Chosen = npt.NDArray[np.bool_]


def hold_out(draws: npt.ArrayLike, caption_index: npt.NDArray[np.int32], fraction: float) -> Chosen:
    """Returns which pictures are held out, (N,) bool: those with the lowest draws.

    A caption of one picture is no longer learned without it. So a caption with fewer than ENOUGH
    pictures spares a smaller part of them; where every picture has a caption of its own, a quarter
    of `fraction` is held out, though at least FEWEST pictures unless `fraction` is fewer.

    Args:
        draws: (N,), one non-negative number for each picture, in any unit.
        caption_index: (N,), the caption of each picture.
        fraction: the share of the pictures that is held out where captions have enough.
    """
    pictures = np.bincount(caption_index, minlength=1)[caption_index]
    spared = np.minimum(pictures / ENOUGH, 1.0)
    whole = round(fraction * len(spared))
    count = max(round(fraction * float(spared.sum())), min(FEWEST, whole))
    chosen = np.zeros(len(spared), dtype=np.bool_)
    chosen[np.argsort(np.asarray(draws) / spared, kind="stable")[:count]] = True
    return chosen

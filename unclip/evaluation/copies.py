"""Whether painted pictures are copies of training pictures."""

import numpy as np
import numpy.typing as npt

from unclip.evaluation.manifold import nearest_pictures, share_nearer
from unclip.evaluation.scene import Scene

NEIGHBOURS_OF = 2000  # real pictures, at most, whose nearest training pictures define "near"
SHOWN = 12  # pictures shown with their nearest training pictures


def copy_figures(scene: Scene) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
    """Returns how near painted pictures come to training pictures, and those that come nearest.

    One of a hundred real test pictures counts as near, so a memorised share of 0.01 is no memory.

    Returns:
        figures: the memorised share and the mean distances.
        rows: (4, S, C, H, W) uint8, painted pictures and the training pictures nearest to them,
            then real ones and theirs; the nearest first, S at most SHOWN.
    """
    train = scene.data.split("train").images
    painted = np.asarray(scene.images)[scene.seen.numpy()]
    test = np.asarray(scene.data.split("test").images[scene.real_seen[:NEIGHBOURS_OF].numpy()])
    distances, nearest = nearest_pictures(painted, train)
    real_distances, real_nearest = nearest_pictures(test, train)
    rows, count = [], min(SHOWN, len(painted), len(test))
    for pictures, far, own in ((painted, distances, nearest), (test, real_distances, real_nearest)):
        shown = far.argsort(stable=True)[:count].numpy()
        rows += [pictures[shown], np.asarray(train[own[shown].numpy()])]
    figures = {
        "memorised": share_nearer(distances, real_distances),
        "nearest_training_distance": float(distances.mean()),
        "nearest_training_distance_real": float(real_distances.mean()),
    }
    return figures, np.stack(rows)

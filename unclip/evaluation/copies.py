"""Whether painted pictures are copies of training pictures."""

import numpy as np
import numpy.typing as npt

from unclip.evaluation.manifold import nearest_pictures, share_nearer
from unclip.evaluation.scene import Scene

NEIGHBOURS_OF = 2000  # real pictures whose nearest training pictures say what near is
SHOWN = 12  # pictures whose nearest training pictures are shown


def copy_figures(scene: Scene) -> tuple[dict[str, float], npt.NDArray[np.uint8]]:
    """Returns how near painted pictures come to training pictures, and those that come nearest.

    Near is what one of a hundred real test pictures is, so that a share of 0.01 is no memory.

    Returns:
        figures: the memorised share and the mean distances.
        rows: (4, S, C, H, W) uint8, painted pictures above the training pictures that are nearest
            to them, then real ones above theirs; the nearest first, S at most SHOWN.
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

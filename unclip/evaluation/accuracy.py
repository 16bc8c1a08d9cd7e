"""Whether painted pictures show what was asked for, beside whether the judge is right at all."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unclip.evaluation.bootstrap import margin_of_mean
from unclip.evaluation.judging import accuracies, is_right
from unclip.evaluation.scene import Scene

FEW_CAPTIONS = 60  # of so many each has an accuracy of its own; of more, each word


def accuracy_figures(scene: Scene, *, seed: int) -> dict:
    """Returns how often the judge sees what was asked for, beside how often it is right at all.

    Figures of painted pictures, of each control and of real pictures are of the captions that
    training shows; those of the others end in `_held_out`. What stands for each caption or each
    word is of all pictures. Nothing, where the data set has no attributes that could be asked for.

    Args:
        scene: all that is judged.
        seed: of the margins.
    """
    if not scene.data.attribute_names:
        return {}
    painted, wanted = scene.painted.predictions, scene.data.caption_attributes[scene.captions]
    figures: dict = _painted_accuracies(scene, painted, wanted, seed)
    for kind, control in scene.controls.items():
        right = is_right(control.predictions, wanted[scene.seen]).all(dim=1)
        figures[f"joint_accuracy_{kind}"] = float(right.float().mean())
        figures[f"joint_accuracy_margin_{kind}"] = margin_of_mean(right, seed=seed)
    real, stated = scene.real.predictions, _stated(scene)
    figures |= _real_accuracies(scene, real, stated)
    if len(scene.data.captions) > FEW_CAPTIONS:
        figures["accuracy_per_word"] = per_word(scene, painted, wanted)
        figures["judge_real_per_word"] = per_word(scene, real, stated)
        return figures
    figures["accuracy_per_caption"] = per_caption(scene, painted, wanted, scene.captions)
    figures["judge_real_per_caption"] = per_caption(scene, real, stated, scene.real_captions)
    return figures


def _stated(scene: Scene) -> Tensor:
    """Returns the attributes (M, A) that captions of real pictures state; -1 is what they do not.

    Painted pictures are asked for no more.
    """
    is_stated = scene.data.caption_attributes[scene.real_captions.long()] >= 0
    return scene.real_attributes.where(is_stated, -1)


def _painted_accuracies(
    scene: Scene, painted: Tensor, wanted: Tensor, seed: int
) -> dict[str, float]:
    """Returns the accuracies of painted pictures; the joint ones with margins."""
    figures: dict[str, float] = {}
    for suffix, rows in (("", scene.seen), ("_held_out", ~scene.seen)):
        if rows.any():
            found = _counted(scene, painted[rows], wanted[rows])
            figures |= {f"{name}{suffix}": value for name, value in found.items()}
        if rows.sum() > 1:
            right = is_right(painted[rows], wanted[rows]).all(dim=1)
            figures[f"joint_accuracy{suffix}_margin"] = margin_of_mean(right, seed=seed)
    return figures


def _real_accuracies(scene: Scene, real: Tensor, stated: Tensor) -> dict[str, float]:
    """Returns the judge's accuracies on real pictures of the same captions."""
    figures: dict[str, float] = {}
    is_seen = ~scene.held_out[scene.real_captions]
    for suffix, rows in (("", is_seen), ("_held_out", ~is_seen)):
        if rows.any():
            found = _counted(scene, real[rows], stated[rows])
            figures |= {
                f"judge_real_{name.removeprefix('joint_')}{suffix}": value
                for name, value in found.items()
            }
    return figures


def _counted(scene: Scene, predictions: Tensor, wanted: Tensor) -> dict[str, float]:
    """Returns every accuracy of some pictures."""
    names = scene.data.attribute_names
    found = accuracies(predictions, wanted, names)
    return found | binding(predictions, wanted, names, scene.data.attribute_values)


def binding(
    predictions: Tensor, wanted: Tensor, names: Sequence[str], values: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns whether pictures of several objects tie to each the attributes that are its own.

    Attributes called `<what>_1`, `<what>_2` and so on are those of the first object, the second, …

    Args:
        predictions: (N, A) int64.
        wanted: (N, A), whole numbers; -1 is not stated.
        names: A names of attributes.
        values: for each attribute the words for its values.

    Returns:
        `words_accuracy`, the share of pictures with the right values of each kind, the right
        colours and the right shapes, in whatever combination; `objects_accuracy`, the share with
        the right objects, wherever they stand; `binding_accuracy`, of those pictures with the right
        values in which they can be combined wrongly, the share with the right objects, for which
        two objects have a chance of 1/2. A figure of no pictures is left out, and all of them where
        the attributes are not of several objects, each with the same several attributes.
    """
    columns = _columns_of_objects(names, values)
    if columns is None:
        return {}
    is_stated = (wanted[:, columns] != -1).all(dim=2).all(dim=1)
    painted, asked = predictions[is_stated][:, columns], wanted[is_stated][:, columns]  # (n, M, K)
    if not len(asked):
        return {}
    is_spelt = (painted.sort(dim=1).values == asked.sort(dim=1).values).all(dim=2).all(dim=1)
    base = max(len(words) for words in values)
    is_bound = (_as_numbers(painted, base) == _as_numbers(asked, base)).all(dim=1)
    can_go_wrong = (asked != asked[:, :1]).any(dim=1).sum(dim=1) > 1
    figures = {
        "words_accuracy": float(is_spelt.float().mean()),
        "objects_accuracy": float(is_bound.float().mean()),
    }
    if (rows := is_spelt & can_go_wrong).any():
        figures["binding_accuracy"] = float(is_bound[rows].float().mean())
    return figures


def _columns_of_objects(names: Sequence[str], values: Sequence[Sequence[str]]) -> Tensor | None:
    """Returns which attributes are those of each object, (M, K), or None where there are none."""
    columns: dict[str, dict[str, int]] = {}
    for column, name in enumerate(names):
        kind, _, object = name.rpartition("_")
        if kind and object.isdecimal():
            columns.setdefault(object, {})[kind] = column
    if len(columns) < 2:
        return None
    first, *others = columns.values()
    is_alike = all(
        other.keys() == first.keys() and all(values[other[k]] == values[first[k]] for k in first)
        for other in others
    )
    if len(first) < 2 or not is_alike:
        return None
    return torch.tensor([[of_object[kind] for kind in first] for of_object in columns.values()])


def _as_numbers(objects: Tensor, base: int) -> Tensor:
    """Returns a number for each object (N, M, K), those of a picture in rising order, (N, M)."""
    places = base ** torch.arange(objects.shape[2])
    return (objects * places).sum(dim=2).sort(dim=1).values


def per_word(scene: Scene, predictions: Tensor, wanted: Tensor) -> dict[str, float]:
    """Returns how often each value of each attribute is seen where it is wanted."""
    figures: dict[str, float] = {}
    for column, name in enumerate(scene.data.attribute_names):
        for value, word in enumerate(scene.data.attribute_values[column]):
            rows = wanted[:, column] == value
            if rows.any():
                right = predictions[rows, column] == value
                figures[f"{name} {word}"] = float(right.float().mean())
    return figures


def per_caption(
    scene: Scene, predictions: Tensor, wanted: Tensor, captions: Tensor
) -> dict[str, float]:
    """Returns the joint accuracy of each caption that has pictures."""
    figures: dict[str, float] = {}
    for caption in captions.unique().tolist():
        rows = captions == caption
        found = accuracies(predictions[rows], wanted[rows], scene.data.attribute_names)
        figures[scene.data.captions[caption]] = found["joint_accuracy"]
    return figures

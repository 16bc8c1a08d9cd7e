"""Whether painted pictures show what their captions say, and whether the judge is right at all."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unclip.evaluation.bootstrap import margin_of_mean
from unclip.evaluation.judging import accuracies, is_right
from unclip.evaluation.scene import Scene

FEW_CAPTIONS = 60  # up to so many, each has an accuracy of its own; of more, each word has


def accuracy_figures(scene: Scene, *, seed: int) -> dict:
    """Returns how often the judge sees what the caption says, and how often it is right at all.

    Figures of painted pictures, of each control and of real pictures are of the captions that
    training shows; those of the others end in `_held_out`. Figures of a caption or a word are of
    all pictures. Empty if the data set has no attributes.

    Args:
        scene: all that is judged.
        seed: of the margins.
    """
    data = scene.data
    if not data.attribute_names:
        return {}
    painted, wanted = scene.painted.predictions, data.caption_attributes[scene.captions]
    figures: dict = _accuracies(scene, painted, wanted, scene.seen)
    for suffix, rows in (("", scene.seen), ("_held_out", ~scene.seen)):
        if rows.sum() > 1:
            right = is_right(painted[rows], wanted[rows]).all(dim=1)
            figures[f"joint_accuracy{suffix}_margin"] = margin_of_mean(right, seed=seed)
    for kind, control in scene.controls.items():
        right = is_right(control.predictions, wanted[scene.seen]).all(dim=1)
        figures[f"joint_accuracy_{kind}"] = float(right.float().mean())
        figures[f"joint_accuracy_margin_{kind}"] = margin_of_mean(right, seed=seed)
    # Of real pictures, too, no more is asked than their captions state.
    is_stated = data.caption_attributes[scene.real_captions.long()] >= 0
    real, stated = scene.real.predictions, scene.real_attributes.where(is_stated, -1)
    found = _accuracies(scene, real, stated, ~scene.held_out[scene.real_captions])
    figures |= {f"judge_real_{name.removeprefix('joint_')}": found[name] for name in found}
    if len(data.captions) > FEW_CAPTIONS:
        figures["accuracy_per_word"] = per_word(scene, painted, wanted)
        figures["judge_real_per_word"] = per_word(scene, real, stated)
    else:
        figures["accuracy_per_caption"] = per_caption(scene, painted, wanted, scene.captions)
        figures["judge_real_per_caption"] = per_caption(scene, real, stated, scene.real_captions)
    return figures


def _accuracies(
    scene: Scene, predictions: Tensor, wanted: Tensor, is_seen: Tensor
) -> dict[str, float]:
    """Returns every accuracy of pictures of seen captions, and of the others as `_held_out`."""
    figures: dict[str, float] = {}
    names, values = scene.data.attribute_names, scene.data.attribute_values
    for suffix, rows in (("", is_seen), ("_held_out", ~is_seen)):
        if rows.any():
            found = accuracies(predictions[rows], wanted[rows], names)
            found |= binding(predictions[rows], wanted[rows], names, values)
            figures |= {f"{name}{suffix}": value for name, value in found.items()}
    return figures


def binding(
    predictions: Tensor, wanted: Tensor, names: Sequence[str], values: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns whether each object of a picture has its own attributes, not those of another.

    Attributes called `<what>_1`, `<what>_2` and so on belong to the first object, the second, …

    Args:
        predictions: (N, A) int64.
        wanted: (N, A), whole numbers; -1 is not stated.
        names: A names of attributes.
        values: for each attribute the words for its values.

    Returns:
        `words_accuracy`, the share of pictures with the right values of each kind (colours and
        shapes, say) in any combination; `objects_accuracy`, the share with the right objects in any
        place; `binding_accuracy`, the share with the right objects among those pictures with the
        right values that could be combined wrongly, where two objects have a chance of 1/2. A
        figure of no pictures is left out. Empty unless there are several objects that share several
        attributes.
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
    """Returns the columns of each object's attributes, (M, K), or None if there are no objects."""
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
    """Returns a number for each object of (N, M, K), sorted within each picture, (N, M)."""
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

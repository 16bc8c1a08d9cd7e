"""The stages on pictures of two shapes, for real but tiny: 720 captions, more than are painted."""

import json
import math

import numpy as np
import pytest
from dag import STAGES
from workspace import PICTURES, Workspace

from unclip.data.prepared import Prepared
from unclip.painting.judged import judged_captions

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        shapes = {"shapes": PICTURES | {"num_objects": 2}}
        workspace = Workspace.at(tmp_path_factory.mktemp("two"), data=shapes)
        return workspace.run(*(stage for stage in STAGES if stage != "report"))


def figures(workspace: Workspace) -> dict:
    return json.loads(workspace.layout.metrics("evaluate").read_text())


def test_every_figure_is_finite_although_no_caption_has_two_pictures(judged):
    found = figures(judged)
    numbers = [v for v in found.values() if not isinstance(v, dict)]
    numbers += [v for d in found.values() if isinstance(d, dict) for v in d.values()]
    assert all(math.isfinite(number) for number in numbers)
    assert "diversity" not in found


def test_of_many_captions_each_word_has_an_accuracy(judged):
    found, data = figures(judged), Prepared(judged.layout.prepared)
    words = {
        f"{name} {word}"
        for name, values in zip(data.attribute_names, data.attribute_values, strict=True)
        for word in values
    }
    assert found["accuracy_per_word"].keys() == found["judge_real_per_word"].keys() == words
    assert not {"accuracy_per_caption", "judge_real_per_caption"} & found.keys()
    assert judged.layout.plot("accuracy").exists()


def test_the_words_of_an_attribute_make_up_its_accuracy(judged):
    data, found = Prepared(judged.layout.prepared), figures(judged)
    test = data.split("test")
    wanted, is_held_out = test.attributes, np.isin(test.caption_index, data.held_out_captions)
    held_out = float(is_held_out.mean())
    for column, (name, values) in enumerate(
        zip(data.attribute_names, data.attribute_values, strict=True)
    ):
        counts = wanted[:, column].long().bincount(minlength=len(values)).tolist()
        shares = [found["judge_real_per_word"][f"{name} {word}"] for word in values]
        right = sum(share * count for share, count in zip(shares, counts, strict=True))
        whole = (1 - held_out) * found[f"judge_real_{name}_accuracy"]
        whole += held_out * found[f"judge_real_{name}_accuracy_held_out"]
        assert right / len(wanted) == pytest.approx(whole, abs=1e-5)


def test_painted_and_real_pictures_are_asked_whether_colours_are_bound_to_shapes(judged):
    found = figures(judged)
    for name in ("words_accuracy", "objects_accuracy"):
        real = {f"judge_real_{name}", f"judge_real_{name}_held_out"}
        assert {name, f"{name}_held_out", *real} <= found.keys()


def test_of_more_captions_than_pictures_each_painted_one_is_another(judged):
    data, num_judged = Prepared(judged.layout.prepared), judged.params.sample.num_judged
    captions = judged_captions(data, num_judged, seed=0).tolist()
    assert len(set(captions)) == len(captions) == num_judged + 216
    assert set(captions[num_judged:]) == set(data.held_out_captions)

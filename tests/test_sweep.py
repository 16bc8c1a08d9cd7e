"""The sweep, for real but tiny."""

import csv

import numpy as np
import pytest
from PIL import Image
from test_stages_training import copy_of
from workspace import Workspace

from unclip.core.artifacts import build, load_artifact
from unclip.data.prepared import Prepared
from unclip.evaluation.judging import accuracies, judge_pictures
from unclip.evaluation.sweep import SAMPLERS, mean_variation
from unclip.models.judge import Judge
from unclip.painting.judged import judged_captions
from unclip.painting.system import Settings, System

pytestmark = pytest.mark.usefixtures("on_cpu")
GUIDANCES, STEPS = [1.0, 3.0], [2, 3]
PLOTS = ("guidance.png", "guidance_grid.png", "steps.png", "steps_grid.png")


@pytest.fixture(scope="module")
def swept(trained, tmp_path_factory) -> Workspace:
    """A copy of the trained workspace in which the sweep has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        sweep = {"num_pictures": 30, "guidances": GUIDANCES, "steps": STEPS}
        folder = tmp_path_factory.mktemp("swept") / "copy"
        return copy_of(trained, folder, sweep=sweep, sample={"guidance": 3.0, "eta": 0.5}).run(
            "sweep"
        )


def table(workspace, name):
    with (workspace.layout.sweep / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_leaves_plots_grids_and_tables_and_nothing_else(swept):
    names = sorted(path.name for path in swept.layout.sweep.iterdir())
    assert names == sorted([*PLOTS, "guidance.csv", "steps.csv"])
    for name in PLOTS:
        with Image.open(swept.layout.sweep / name) as image:
            assert min(image.size) > 50


def test_every_setting_is_tried_once(swept):
    found = [(float(r["prior_guidance"]), float(r["guidance"])) for r in table(swept, "guidance")]
    assert found == [(prior, decoder) for prior in GUIDANCES for decoder in GUIDANCES]
    ways = [(r["sampler"], float(r["guidance"]), int(r["steps"])) for r in table(swept, "steps")]
    assert ways == [(s, g, n) for s in SAMPLERS for g in (3.0, 1.0) for n in STEPS]


def test_a_setting_is_judged_as_if_it_were_the_only_one(swept):
    layout, params = swept.layout, swept.params
    data, system = Prepared(layout.prepared), System.load(layout.models)
    captions = judged_captions(data, 30, params.sample.seed)[:30]
    settings = Settings.of(
        params.sample.model_copy(update={"prior_guidance": 1.0, "guidance": 3.0})
    )
    prompts = [data.captions[i] for i in captions.tolist()]
    pictures = system.paint(prompts, range(30), settings)
    where = layout.model("judge")
    judge = build(load_artifact(where, "judge"), Judge, where)
    found = judge_pictures(judge, data, pictures, "cpu").predictions
    wanted = accuracies(found, data.caption_attributes[captions], data.attribute_names)
    (row,) = (
        r
        for r in table(swept, "guidance")
        if (float(r["prior_guidance"]), float(r["guidance"])) == (1.0, 3.0)
    )
    assert float(row["joint_accuracy"]) == pytest.approx(wanted["joint_accuracy"], abs=1e-5)


def test_settings_make_a_difference(swept):
    for name in ("guidance", "steps"):
        assert len({row["frechet_distance"] for row in table(swept, name)}) > 2
        assert np.isfinite([float(row["frechet_distance"]) for row in table(swept, name)]).all()


def test_steps_of_ddim_are_taken_with_the_eta_of_params(swept):
    data, sample = Prepared(swept.layout.prepared), swept.params.sample
    system = System.load(swept.layout.models)
    prompts = [data.captions[i] for i in judged_captions(data, 30, sample.seed)[:30].tolist()]

    def roughness(sampler, eta):
        changes = {"sampler": sampler, "steps": 3, "eta": eta}
        settings = Settings.of(sample.model_copy(update=changes))
        return mean_variation(system.paint(prompts, range(30), settings))

    rows = {
        row["sampler"]: float(row["roughness"])
        for row in table(swept, "steps")
        if (row["steps"], float(row["guidance"])) == ("3", 3.0)
    }
    found, unit = rows["ddim"] / rows["dpmpp_2m"], roughness("dpmpp_2m", 0.0)
    assert sample.eta == 0.5
    assert found == pytest.approx(roughness("ddim", 0.5) / unit, rel=1e-4)
    assert found != pytest.approx(roughness("ddim", 0.0) / unit, rel=1e-3)


def test_variation_is_the_sum_of_steps_between_neighbours():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5), dtype=np.uint8)
    total = 0
    for picture in pictures.tolist():
        for channel in picture:
            for y, row in enumerate(channel):
                for x, value in enumerate(row):
                    total += abs(value - row[x + 1]) if x + 1 < len(row) else 0
                    total += abs(value - channel[y + 1][x]) if y + 1 < len(channel) else 0
    assert mean_variation(pictures) == pytest.approx(total / 3)


def test_roughness_is_told_beside_that_of_real_pictures(swept):
    layout, row = swept.layout, table(swept, "steps")[0]
    data = Prepared(layout.prepared)
    assert float(row["roughness"]) > 0
    real = np.asarray(data.split("test").images)
    assert mean_variation(real) > mean_variation(np.full_like(real, 7)) == 0


def test_without_pictures_it_leaves_a_note_and_no_more(swept, tmp_path):
    workspace = copy_of(swept, tmp_path / "copy", sweep={"num_pictures": 0}).run("sweep")
    assert [path.name for path in workspace.layout.sweep.iterdir()] == ["left_out.txt"]

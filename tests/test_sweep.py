"""One trained system painted from in many ways, for real but tiny."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unclip.core.artifacts import build, load_artifact
from unclip.data.prepared import Prepared
from unclip.diffusion.reverse import Solver
from unclip.diffusion.samplers import SAMPLERS
from unclip.evaluation.judging import accuracies, judge_pictures
from unclip.evaluation.sweep import Sweep, mean_variation
from unclip.models.judge import Judge
from unclip.painting.judged import judged_captions
from unclip.painting.loading import load_system
from unclip.painting.settings import Settings

pytestmark = pytest.mark.usefixtures("on_cpu")
GUIDANCES, STEPS, NUM = [1.0, 3.0], [2, 3], 30
PLOTS = ("guidance.png", "guidance_grid.png", "steps.png", "steps_grid.png")
MADE = sorted([*PLOTS, "guidance.csv", "steps.csv"])


@pytest.fixture(scope="module")
def sample(trained):
    return trained.params.sample.model_copy(
        update={"guidance": 3.0, "eta": 0.5, "seed": 4, "spacing": "karras"}
    )


@pytest.fixture(scope="module")
def out(trained, sample, tmp_path_factory):
    """The folder that a sweep of the trained workspace leaves."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_DEVICE", "cpu")
        sweep = Sweep.of(trained.layout, sample, NUM, folder)
        sweep.guidance(GUIDANCES)
        sweep.steps(STEPS)
    return folder


def table(out, name):
    with (out / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def painted(workspace, settings, seed):
    """What a sweep paints with these settings."""
    data, system = Prepared(workspace.layout.prepared), load_system(workspace.layout.models)
    prompts = [data.captions[i] for i in judged_captions(data, NUM, seed)[:NUM].tolist()]
    seeds = range(seed, seed + NUM)
    return system.decode(system.sample_prior(prompts, seeds, settings), prompts, seeds, settings)


def test_it_leaves_plots_grids_and_tables_and_nothing_else(out):
    assert sorted(path.name for path in out.iterdir()) == MADE
    for name in PLOTS:
        with Image.open(out / name) as image:
            assert min(image.size) > 50


def test_every_setting_is_tried_once(out):
    found = [(float(r["prior_guidance"]), float(r["guidance"])) for r in table(out, "guidance")]
    assert found == [(prior, decoder) for prior in GUIDANCES for decoder in GUIDANCES]
    ways = [(r["sampler"], float(r["guidance"]), int(r["steps"])) for r in table(out, "steps")]
    assert ways == [(s, g, n) for s in SAMPLERS for g in (3.0, 1.0) for n in STEPS]


def test_a_setting_is_judged_as_if_it_were_the_only_one(trained, sample, out):
    settings = Settings.of(sample, "cpu")
    settings = replace(settings, prior=replace(settings.prior, guidance=1.0))
    where, data = trained.layout.model("judge"), Prepared(trained.layout.prepared)
    judge = build(load_artifact(where, "judge"), Judge, where)
    found = judge_pictures(judge, data, painted(trained, settings, sample.seed), "cpu").predictions
    captions = judged_captions(data, NUM, sample.seed)[:NUM]
    wanted = accuracies(found, data.caption_attributes[captions], data.attribute_names)
    (row,) = (
        row
        for row in table(out, "guidance")
        if (float(row["prior_guidance"]), float(row["guidance"])) == (1.0, 3.0)
    )
    assert float(row["joint_accuracy"]) == pytest.approx(wanted["joint_accuracy"], abs=1e-5)


def test_settings_make_a_difference(out):
    for name in ("guidance", "steps"):
        distances = [float(row["frechet_distance"]) for row in table(out, name)]
        assert len(set(distances)) > 2
        assert np.isfinite(distances).all()
        assert all(float(row["frechet_distance_floor"]) >= 0 for row in table(out, name))


def test_steps_of_ddim_are_taken_with_the_eta_and_the_spacing_of_params(trained, sample, out):
    def roughness(sampler, eta, spacing="karras"):
        solver = Solver(sampler, 3, eta, 3.0, spacing)
        settings = replace(Settings.of(sample, "cpu"), decoder=solver)
        return mean_variation(painted(trained, settings, sample.seed))

    rows = {
        row["sampler"]: float(row["roughness"])
        for row in table(out, "steps")
        if (row["steps"], float(row["guidance"])) == ("3", 3.0)
    }
    found, unit = rows["ddim"] / rows["dpmpp_2m"], roughness("dpmpp_2m", 0.0)
    assert found == pytest.approx(roughness("ddim", 0.5) / unit, rel=1e-4)
    for other in (roughness("ddim", 0.0), roughness("ddim", 0.5, "uniform")):
        assert found != pytest.approx(other / unit, rel=1e-3)


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


# The command


def test_the_command_sweeps_the_folder_it_is_run_in(run, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained.layout.root)
    ways = ("--guidance", 2, "--steps", 2, "--steps", 3)
    status, said, err = run("sweep", "--num", 12, *ways, "--out", tmp_path / "out")
    assert status == 0, err
    assert str(tmp_path / "out") in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == MADE
    assert [row["guidance"] for row in table(tmp_path / "out", "guidance")] == ["2"]
    assert {row["steps"] for row in table(tmp_path / "out", "steps")} == {"2", "3"}


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--num", 9], "--num"), (["--steps", 0], "--steps"), ([], "nothing is trained there yet")],
)
def test_what_can_not_be_swept_is_told_and_nothing_is_left(
    run, tmp_path, monkeypatch, options, told
):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("sweep", *options)
    assert status != 0
    assert told in err
    assert list(tmp_path.iterdir()) == []

"""The stages that paint and judge, for real but tiny."""

import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from test_stages_training import copy_of, poison
from workspace import Workspace

from stages.paint_controls import control_embeds
from unclip.config.layout import CONTROLS
from unclip.core.artifacts import weights_hash
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.evaluation.manifold import overlap
from unclip.painting.judged import judged_captions
from unclip.painting.loading import load_system
from unclip.painting.settings import Settings

pytestmark = pytest.mark.usefixtures("on_cpu")
JUDGED = ("images", "caption_index", "prior_embeds")


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory) -> Workspace:
    """A copy of the trained workspace in which the controls are painted, and all is judged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        return copy_of(trained, tmp_path_factory.mktemp("judged") / "copy").run(
            "paint_controls", "evaluate"
        )


def arrays(workspace):
    return {name: np.load(workspace.layout.judged / f"{name}.npy") for name in JUDGED}


def figures(workspace):
    return json.loads(workspace.layout.metrics("evaluate").read_text())


@pytest.fixture
def no_charts(monkeypatch):
    """Spares evaluate its charts, which take most of its time."""
    for chart in ("bar_accuracies", "curves", "neighbours"):
        monkeypatch.setattr(f"stages.evaluate.{chart}", lambda *_: Image.new("RGB", (1, 1)))


# sample


def test_painting_again_gives_the_same_bytes(trained, tmp_path):
    again = copy_of(trained, tmp_path / "copy").run("sample")
    for path in ("grid.png", "trajectory.png", *(f"judged/{name}.npy" for name in JUDGED)):
        ours, theirs = (w.layout.root / "samples" / path for w in (again, trained))
        assert ours.read_bytes() == theirs.read_bytes(), path


def test_the_batch_size_changes_no_picture(trained, tmp_path):
    other = copy_of(trained, tmp_path / "copy", sample={"batch_size": 7}).run("sample")
    ours, theirs = arrays(other), arrays(trained)
    assert np.abs(ours["images"].astype(int) - theirs["images"]).max() <= 1
    assert np.abs(ours["prior_embeds"] - theirs["prior_embeds"]).max() < 1e-4


def test_more_judged_pictures_change_nothing_of_the_grid(trained, tmp_path):
    other = copy_of(trained, tmp_path / "copy", sample={"num_judged": 90}).run("sample")
    assert other.layout.grid.read_bytes() == trained.layout.grid.read_bytes()


def test_another_seed_paints_other_pictures(trained, tmp_path):
    other = copy_of(trained, tmp_path / "copy", sample={"seed": 100}).run("sample")
    assert not np.array_equal(arrays(other)["images"], arrays(trained)["images"])


def test_judged_pictures_go_round_the_captions_and_each_is_another(trained):
    data, found = Prepared(trained.layout.prepared), arrays(trained)
    counts = Counter(found["caption_index"].tolist())
    seen = [counts[i] for i in range(len(data.captions)) if i not in data.held_out_captions]
    assert sum(seen) == trained.params.sample.num_judged
    assert max(seen) - min(seen) <= 1
    assert {counts[i] for i in data.held_out_captions} == {max(seen)}
    assert len(found["images"]) == len(found["prior_embeds"]) == sum(counts.values())
    assert len({picture.tobytes() for picture in found["images"]}) == len(found["images"])
    assert np.linalg.norm(found["prior_embeds"], axis=1) == pytest.approx(1, abs=1e-5)


def test_of_more_captions_than_pictures_a_seeded_choice_is_judged(trained):
    data = Prepared(trained.layout.prepared)
    few = [judged_captions(data, num_judged=10, seed=seed) for seed in (0, 0, 1)]
    chosen = [caption.tolist()[:10] for caption in few]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 10
    assert not set(chosen[0]) & set(data.held_out_captions)


@pytest.mark.parametrize("name", ["grid", "trajectory"])
def test_figures_carry_what_painted_them(trained, name):
    with Image.open(getattr(trained.layout, name)) as image:
        text = dict(image.text)
    data, sample = Prepared(trained.layout.prepared), trained.params.sample
    assert text["prompts"].split("\n") == data.prompts
    assert text["seeds"] == ("0 1" if name == "grid" else "0")
    assert (text["decoder.steps"], text["prior.steps"]) == (
        str(sample.steps),
        str(sample.prior_steps),
    )
    assert text["precision"] == "fp32"
    for kind in ("clip", "prior", "decoder"):
        assert text[f"checkpoint.{kind}"] == weights_hash(trained.layout.model(kind))


def test_the_trajectory_shows_ten_moments_and_ends_with_the_finished_picture(
    trained, tmp_path, monkeypatch
):
    shown = {}

    def remember(frames, prompts, timesteps):
        shown.update(frames=frames, timesteps=timesteps)
        return Image.new("RGB", (1, 1))

    monkeypatch.setattr("stages.sample.trajectory", remember)
    workspace = copy_of(trained, tmp_path / "copy", sample={"steps": 25}).run("sample")
    timesteps = shown["timesteps"]
    assert (len(timesteps), timesteps[0], timesteps[-1]) == (10, 999, 0)
    assert timesteps == sorted(timesteps, reverse=True)
    assert shown["frames"].shape[:2] == (8, 10)

    system = load_system(workspace.layout.models)
    settings = Settings.of(workspace.params.sample, "cpu")
    rows = system.paint(Prepared(workspace.layout.prepared).prompts, [0], settings)
    assert np.abs(shown["frames"][:, -1].astype(int) - rows[:, 0]).max() <= 1


def test_a_row_of_the_grid_begins_with_the_first_test_picture_of_its_prompt(trained):
    data = Prepared(trained.layout.prepared)
    test = data.split("test")
    prompts = [data.captions[int(test.caption_index[i])] for i in (5, 0)]
    for prompt, picture in zip(prompts, data.real_pictures(prompts), strict=True):
        first = test.caption_index.tolist().index(data.captions.index(prompt))
        assert np.array_equal(picture, test.images[first])
    assert data.real_pictures([prompts[0], "a hat"]) is None


# evaluate


def test_every_figure_is_finite_and_has_its_floor_or_ceiling_beside_it(judged):
    found = figures(judged)
    for name, reference in {
        "frechet_distance": "frechet_distance_floor",
        "kernel_distance": "kernel_distance_floor",
        **{name: f"{name}_ceiling" for name in ("precision", "recall", "density", "coverage")},
        "diversity": "diversity_ceiling",
        "nearest_training_distance": "nearest_training_distance_real",
        **{f"frechet_distance_{kind}": f"coverage_{kind}" for kind in CONTROLS},
        "joint_accuracy": "judge_real_accuracy",
        "colour_accuracy": "judge_real_colour_accuracy",
        "joint_accuracy_held_out": "judge_real_accuracy_held_out",
        "prior_cosine": "prior_cosine_text_baseline",
        "accuracy_per_caption": "judge_real_per_caption",
    }.items():
        assert {name, reference} <= set(found)
    numbers = [v for v in found.values() if not isinstance(v, dict)]
    numbers += [v for d in found.values() if isinstance(d, dict) for v in d.values()]
    assert all(math.isfinite(number) for number in numbers)


def test_evaluating_again_gives_the_same_figures(judged, tmp_path, no_charts):
    assert figures(copy_of(judged, tmp_path / "copy").run("evaluate")) == figures(judged)


def test_the_headline_is_part_of_the_figures_and_at_most_ten(judged):
    headline = json.loads(judged.layout.metrics("headline").read_text())
    everything = figures(judged) | json.loads(judged.layout.metrics("train_clip").read_text())
    assert len(headline) <= 10
    assert all(everything[name] == value for name, value in headline.items())


def test_test_pictures_in_place_of_painted_ones_reach_the_real_figures(judged, tmp_path, no_charts):
    workspace = copy_of(judged, tmp_path / "copy")
    folder, test = workspace.layout.judged, workspace.layout.prepared / "test"
    for name in ("images", "caption_index"):
        np.save(folder / f"{name}.npy", np.load(test / f"{name}.npy"))
    np.save(folder / "prior_embeds.npy", np.load(workspace.layout.embeddings / "test.npy"))
    seen = ~np.isin(np.load(test / "caption_index.npy"), held_out_captions(workspace))
    for kind in CONTROLS:
        np.save(workspace.layout.control(kind), np.load(test / "images.npy")[seen])
    found, before = figures(workspace.run("evaluate")), figures(judged)
    assert found["accuracy_per_caption"] == found["judge_real_per_caption"]
    assert found["frechet_distance"] < before["frechet_distance"]
    assert found["prior_cosine"] > before["prior_cosine"]


def test_painted_sets_and_real_ones_are_looked_at_in_equal_numbers_for_neighbours(
    judged, tmp_path, no_charts, monkeypatch
):
    sizes = []

    def remember(painted, real, **options):
        sizes.append((len(painted), len(real)))
        return overlap(painted, real, **options)

    monkeypatch.setattr("unclip.evaluation.yardstick.overlap", remember)
    found = figures(copy_of(judged, tmp_path / "copy").run("evaluate"))
    count = found["num_neighbour_pictures"]
    assert sizes == [(count, count)] * (2 + len(CONTROLS))  # painted, ceiling, controls
    # The test split is too small to be held against itself with as many as are painted.
    assert count == found["num_floor"] < found["num_samples"]


def test_every_figure_of_a_set_of_pictures_has_its_margin(judged):
    found = figures(judged)
    names = ("joint_accuracy", "frechet_distance", "precision", "recall", "density", "coverage")
    for suffix in ("", *(f"_{kind}" for kind in CONTROLS)):
        for name in (*names, "diversity"):
            assert found[f"{name}_margin{suffix}"] >= 0


def test_copies_of_training_pictures_are_told(judged, tmp_path, no_charts):
    assert figures(judged)["memorised"] < 0.5
    workspace = copy_of(judged, tmp_path / "copy")
    images = workspace.layout.judged / "images.npy"
    train = np.load(workspace.layout.prepared / "train" / "images.npy")
    np.save(images, train[np.arange(len(np.load(images))) % len(train)])
    found = figures(workspace.run("evaluate"))
    assert found["memorised"] == 1
    assert found["nearest_training_distance"] == 0


# paint_controls


def held_out_captions(workspace):
    return Prepared(workspace.layout.prepared).held_out_captions


def controls(workspace):
    return {kind: np.load(workspace.layout.control(kind)) for kind in CONTROLS}


def test_controls_are_the_captions_and_noise_of_the_judged_pictures(judged):
    found = arrays(judged)
    seen = ~np.isin(found["caption_index"], held_out_captions(judged))
    for kind, images in controls(judged).items():
        assert images.shape == found["images"][seen].shape, kind
        assert images.dtype == np.uint8
        assert (images != found["images"][seen]).any()


def test_a_control_is_painted_with_the_noise_of_its_picture(judged):
    captions = arrays(judged)["caption_index"]
    captions = captions[~np.isin(captions, held_out_captions(judged))]
    texts = np.load(judged.layout.embeddings / "captions.npy")
    data, sample = Prepared(judged.layout.prepared), judged.params.sample
    again = load_system(judged.layout.models).decode(
        torch.from_numpy(texts[captions]),
        [data.captions[i] for i in captions],
        range(sample.seed, sample.seed + len(captions)),
        Settings.of(sample, "cpu"),
    )
    assert (again == controls(judged)["text_embed"]).all()


def test_the_controls_need_no_prior(judged, tmp_path):
    workspace = copy_of(judged, tmp_path / "copy")
    shutil.rmtree(workspace.layout.model("prior"))
    workspace.run("paint_controls")
    for kind, images in controls(workspace).items():
        assert (images == controls(judged)[kind]).all()


def test_controls_are_painted_from_the_embeddings_that_they_are_named_for(judged):
    data, embeddings = Prepared(judged.layout.prepared), Embeddings(judged.layout.embeddings)
    captions = torch.tensor([0, 3, 0, *data.held_out_captions[:1]])
    found = control_embeds(data, embeddings, captions)
    texts = np.load(judged.layout.embeddings / "captions.npy")
    assert np.array_equal(found["text_embed"], texts[captions])
    val = data.split("val").caption_index
    train = data.split("train").caption_index
    embeds = np.load(judged.layout.embeddings / "train.npy")
    for row, caption in enumerate([0, 3, 0]):
        mean = embeds[(train == caption).numpy()].astype(np.float64).mean(axis=0)
        assert found["caption_mean"][row].numpy() == pytest.approx(
            mean / np.linalg.norm(mean), abs=1e-5
        )
    assert np.array_equal(found["caption_mean"][3], texts[captions[3]])
    real = np.load(judged.layout.embeddings / "val.npy")
    own = (val == 0).nonzero()[:, 0].tolist()
    first, second = (own * 2)[:2]
    assert np.array_equal(found["image_embed"][[0, 2]], real[[first, second]])


def test_controls_are_not_painted_from_the_pictures_that_judge_them(judged, tmp_path):
    workspace = copy_of(judged, tmp_path / "copy")
    poison(workspace.layout.prepared / "test", "images", "caption_index", "attributes")
    poison(workspace.layout.embeddings, "test")
    workspace.run("paint_controls")
    for kind, images in controls(workspace).items():
        assert (images == controls(judged)[kind]).all()


def test_a_caption_without_a_validation_picture_is_painted_from_its_text(judged, tmp_path):
    workspace = copy_of(judged, tmp_path / "copy")
    path = workspace.layout.prepared / "val" / "caption_index.npy"
    others = np.load(path)
    others[others == 3] = 0
    np.save(path, others)
    data, embeddings = Prepared(workspace.layout.prepared), Embeddings(workspace.layout.embeddings)
    found = control_embeds(data, embeddings, torch.tensor([0, 3]))
    assert np.array_equal(found["image_embed"][1], embeddings.captions[3])
    assert not np.array_equal(found["image_embed"][0], embeddings.captions[0])


def test_held_out_captions_are_counted_apart(judged, tmp_path, no_charts):
    before = figures(judged)
    workspace = copy_of(judged, tmp_path / "copy")
    data = Prepared(workspace.layout.prepared)
    images = np.load(workspace.layout.judged / "images.npy")
    captions = np.load(workspace.layout.judged / "caption_index.npy")
    images[np.isin(captions, data.held_out_captions)] = 0
    np.save(workspace.layout.judged / "images.npy", images)
    found = figures(workspace.run("evaluate"))
    for name in ("joint_accuracy", "frechet_distance", "kernel_distance", "prior_cosine"):
        assert found[name] == before[name]


def test_the_judges_own_accuracy_is_that_of_its_training(judged):
    own = json.loads(judged.layout.metrics("train_judge").read_text())
    found, captions = figures(judged), Prepared(judged.layout.prepared).split("test").caption_index
    held_out = float(np.isin(captions, held_out_captions(judged)).mean())
    parts = (1 - held_out) * found["judge_real_accuracy"]
    parts += held_out * found["judge_real_accuracy_held_out"]
    assert parts == pytest.approx(own["test_joint_accuracy"], abs=1e-5)


def test_the_judge_is_asked_about_real_pictures_of_the_captions_that_a_figure_is_of(judged):
    found, data = figures(judged), Prepared(judged.layout.prepared)
    rows = data.split("test").caption_index
    totals = {True: [0.0, 0], False: [0.0, 0]}
    for i, caption in enumerate(data.captions):
        if count := int((rows == i).sum()):
            part = totals[i in data.held_out_captions]
            part[0] += found["judge_real_per_caption"][caption] * count
            part[1] += count
    for is_held_out, name in (
        (False, "judge_real_accuracy"),
        (True, "judge_real_accuracy_held_out"),
    ):
        right, count = totals[is_held_out]
        assert found[name] == pytest.approx(right / count, abs=1e-5)


def test_the_accuracy_on_held_out_captions_has_a_margin_of_its_own_pictures(judged):
    found, data = figures(judged), Prepared(judged.layout.prepared)
    captions = arrays(judged)["caption_index"]
    for suffix, is_held_out in (("", False), ("_held_out", True)):
        count = int((np.isin(captions, data.held_out_captions) == is_held_out).sum())
        share = found[f"joint_accuracy{suffix}"]
        closed_form = 1.96 * math.sqrt(share * (1 - share) / count)  # of a share of N pictures
        assert found[f"joint_accuracy{suffix}_margin"] == pytest.approx(closed_form, rel=0.25)


def test_a_plot_stands_for_the_accuracy_and_each_training(judged):
    plots = judged.layout.plot("accuracy").parent
    trainings = ("train_clip", "train_decoder", "train_judge", "train_prior")
    assert sorted(p.name for p in plots.iterdir()) == [
        f"{name}.png" for name in ("accuracy", "neighbours", *trainings)
    ]


def test_evaluate_reads_no_network_but_the_judge(judged, tmp_path, no_charts):
    workspace = copy_of(judged, tmp_path / "copy")
    for kind in ("clip", "prior", "decoder"):
        shutil.rmtree(workspace.layout.model(kind))
    assert figures(workspace.run("evaluate")) == figures(judged)


def test_validation_pictures_are_not_judged(judged, tmp_path, no_charts):
    workspace = copy_of(judged, tmp_path / "copy")
    poison(workspace.layout.prepared / "val", "images", "caption_index", "attributes")
    assert figures(workspace.run("evaluate")) == figures(judged)

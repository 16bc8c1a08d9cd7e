"""The training stages, for real but tiny, and where each fault of the tutorial's code is caught."""

import ast
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision.utils import make_grid
from workspace import Workspace, forget_accelerator

import stages.train_clip
import stages.train_decoder
import stages.train_judge
import stages.train_prior
from unclip.core.artifacts import build, load_artifact
from unclip.core.device import open_machine
from unclip.core.seeding import generator
from unclip.data.embeddings import Embeddings
from unclip.data.prepared import Prepared
from unclip.diffusion.process import Diffusion
from unclip.models.clip import CLIP
from unclip.models.judge import Judge
from unclip.models.prior import Prior
from unclip.models.unet import UNet

pytestmark = pytest.mark.usefixtures("on_cpu")

# Faults of the tutorial's code that must not return, and the test that would notice.
FAULTS = {
    "the prior sampled by one forward pass at t = T - 1": (
        "test_system.py::test_the_prior_is_sampled_by_a_full_reverse_diffusion"
    ),
    "the prior drawn again at every denoising step": (
        "test_system.py::test_the_prior_is_drawn_once_and_never_while_the_decoder_paints"
    ),
    "sigma as a variance": (
        "test_diffusion_samplers_diffusers.py::test_every_ddpm_step_is_that_of_diffusers"
    ),
    "x_{t-1} clamped to [-1, 1]": "test_system.py::test_x_t_itself_is_not_clamped",
    "data that reaches 2.1 cut at 1": (
        "test_system.py::test_a_prediction_above_one_is_painted_as_bright_as_it_is"
    ),
    "frozen networks put back into train mode by the parent": (
        "test_system.py::test_networks_are_in_eval_mode_and_no_parent_can_put_them_into_train_mode"
    ),
    "frozen networks trained along": (
        "test_stages_training.py::test_prior_and_decoder_never_open_the_weights_of_clip"
    ),
    "raw token ids as a transformer token": (
        "test_models_prior.py::test_the_sequence_is_text_then_four_tokens_and_no_token_ids"
    ),
    "token ids read as numbers": ("test_models_clip.py::test_token_ids_are_names_and_not_numbers"),
    "no positions in the prior": (
        "test_models_prior.py::test_the_same_encoding_reads_differently_at_every_position"
    ),
    "captions not truncated": (
        "test_tokenizer.py::test_a_caption_one_byte_too_long_is_an_error_and_not_cut"
    ),
    "padding counted in characters": (
        "test_tokenizer.py::test_the_mask_counts_bytes_not_characters"
    ),
    "masks ignored by the UNet": (
        "test_models_unet.py::test_trimming_common_padding_changes_nothing"
    ),
    "the test set selecting checkpoints": (
        "test_stages_training.py::test_no_training_looks_at_the_test_pictures"
    ),
    "validation loss redrawn with other noise": (
        "test_stages_training.py::test_validation_gives_the_same_number_every_time"
    ),
    "an unknown schedule falling through": (
        "test_diffusion_schedules.py"
        "::test_an_unknown_schedule_is_an_error_that_names_the_known_ones"
    ),
    "the linear schedule breaking for small T": (
        "test_diffusion_schedules.py::test_every_length_of_every_schedule_descends_to_noise"
    ),
    "checkpoints holding copies of other models": (
        "test_stages_training.py::test_a_checkpoint_holds_its_own_network_and_no_other"
    ),
    "isfile deciding what is stale": (
        "test_stages_training.py::test_what_lies_there_already_is_trained_anew"
    ),
    "pickled checkpoints": "test_artifacts.py::test_nothing_is_pickled",
    "mean and std wrong for several channels": (
        "test_data.py::test_mean_and_std_are_those_of_the_float_pictures_in_each_channel"
    ),
    "captions=None crashing": (
        "test_system.py::test_a_decoder_without_one_heeds_the_embedding_alone"
    ),
    "no seeds": "test_stages_training.py::test_the_same_seed_gives_the_same_bytes",
    "no EMA": (
        "test_training.py::test_with_average_the_last_one_is_kept_whatever_the_validation_loss"
    ),
    "no guidance": "test_system.py::test_guidance_changes_the_picture",
}
NETWORKS = {"clip": CLIP, "prior": Prior, "decoder": UNet, "judge": Judge}
TRAININGS = {f"train_{kind}": kind for kind in NETWORKS}
TASKS = {
    "train_clip": stages.train_clip.ClipTask,
    "train_prior": stages.train_prior.PriorTask,
    "train_decoder": stages.train_decoder.DecoderTask,
    "train_judge": stages.train_judge.JudgeTask,
}
TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_test(fault):
    file, _, name = FAULTS[fault].partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture
def workspace(trained, tmp_path) -> Workspace:
    """A copy of the trained workspace that may be changed."""
    return copy_of(trained, tmp_path / "copy")


def copy_of(trained: Workspace, folder: Path, **sections) -> Workspace:
    shutil.copytree(trained.layout.root, folder)
    return Workspace.at(folder, **sections)


def weights(workspace: Workspace, kind: str) -> dict[str, torch.Tensor]:
    return load_file(workspace.layout.model(kind) / "model.safetensors")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def poison(folder: Path, *arrays: str) -> None:
    """Overwrites arrays of a split by others of the same shape and type."""
    for name in arrays:
        array = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", array[::-1] * (0 if name == "images" else 1))


def task_of(workspace: Workspace, stage: str):
    """The task of a training stage, as its run makes it."""
    forget_accelerator()
    section = getattr(workspace.params, stage.removeprefix("train_"))
    return TASKS[stage].of(workspace.layout, section, open_machine("fp32"))


def network_of(workspace: Workspace, kind: str) -> nn.Module:
    folder = workspace.layout.model(kind)
    return build(load_artifact(folder, kind), NETWORKS[kind], folder)


# What a training depends on


@pytest.mark.parametrize("stage", TRAININGS)
def test_the_same_seed_gives_the_same_bytes(trained, workspace, stage):
    kind = TRAININGS[stage]
    workspace.run(stage)
    for name in ("model.safetensors", "model.json"):
        ours, theirs = (w.layout.model(kind) / name for w in (workspace, trained))
        assert ours.read_bytes() == theirs.read_bytes()
    for name in (f"history/{stage}.csv", f"metrics/{stage}.json"):
        assert (workspace.layout.root / name).read_bytes() == (
            trained.layout.root / name
        ).read_bytes()


@pytest.mark.parametrize("stage", TRAININGS)
def test_another_seed_gives_other_weights(trained, tmp_path, stage):
    kind = TRAININGS[stage]
    other = copy_of(trained, tmp_path / "copy", **{kind: {"seed": 1}}).run(stage)
    assert not same(weights(other, kind), weights(trained, kind))


@pytest.mark.parametrize("stage", TRAININGS)
def test_no_training_looks_at_the_test_pictures(trained, workspace, stage):
    kind = TRAININGS[stage]
    poison(workspace.layout.prepared / "test", "images", "caption_index", "attributes")
    np.save(workspace.layout.embeddings / "test.npy", np.zeros((120, 8), np.float32))
    workspace.run(stage)
    assert same(weights(workspace, kind), weights(trained, kind))


@pytest.mark.parametrize("stage", TRAININGS)
def test_validation_pictures_are_never_learned(trained, tmp_path, stage):
    kind = TRAININGS[stage]
    # Validated once, at the end, they cannot choose the step either.
    once = {kind: {"val_every": 4}}
    clean = copy_of(trained, tmp_path / "clean", **once).run(stage)
    poisoned = copy_of(trained, tmp_path / "poisoned", **once)
    poison(poisoned.layout.prepared / "val", "images", "caption_index", "attributes")
    val = poisoned.layout.embeddings / "val.npy"
    np.save(val, -np.load(val))
    poisoned.run(stage)
    assert same(weights(poisoned, kind), weights(clean, kind))
    loss = [
        json.loads((w.layout.metrics(stage)).read_text())["val_loss"] for w in (clean, poisoned)
    ]
    assert loss[0] != loss[1]


def test_the_prior_never_touches_a_pixel(trained, workspace):
    for split in ("train", "val"):
        poison(workspace.layout.prepared / split, "images")
    workspace.run("train_prior")
    assert same(weights(workspace, "prior"), weights(trained, "prior"))


def test_the_decoder_does_not_depend_on_the_prior(trained, workspace):
    shutil.rmtree(workspace.layout.model("prior"))
    workspace.run("train_decoder")
    assert same(weights(workspace, "decoder"), weights(trained, "decoder"))


@pytest.mark.parametrize("stage", ["train_prior", "train_decoder"])
def test_prior_and_decoder_never_open_the_weights_of_clip(trained, workspace, stage):
    kind = TRAININGS[stage]
    (workspace.layout.model("clip") / "model.safetensors").write_bytes(b"no weights at all")
    workspace.run(stage)
    assert same(weights(workspace, kind), weights(trained, kind))


def test_the_judge_knows_nothing_of_clip_or_diffusion(trained, workspace):
    shutil.rmtree(workspace.layout.embeddings)
    for kind in ("clip", "prior", "decoder", "judge"):
        shutil.rmtree(workspace.layout.model(kind))
    workspace.run("train_judge")
    assert same(weights(workspace, "judge"), weights(trained, "judge"))


@pytest.mark.parametrize("stage", TRAININGS)
def test_what_lies_there_already_is_trained_anew(trained, tmp_path, stage):
    kind = TRAININGS[stage]
    over_it = copy_of(trained, tmp_path / "copy", **{kind: {"lr": 0.03}}).run(stage)
    assert not same(weights(over_it, kind), weights(trained, kind))
    fresh = copy_of(trained, tmp_path / "fresh", **{kind: {"lr": 0.03}})
    shutil.rmtree(fresh.layout.model(kind))
    fresh.run(stage)
    assert same(weights(fresh, kind), weights(over_it, kind))


# What a training leaves


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_checkpoint_holds_its_own_network_and_no_other(trained, kind):
    config = json.loads((trained.layout.model(kind) / "model.json").read_text())["config"]
    own = NETWORKS[kind](**config).state_dict()
    stored = weights(trained, kind)
    assert {k: v.shape for k, v in stored.items()} == {k: v.shape for k, v in own.items()}


@pytest.mark.parametrize("stage", TRAININGS)
def test_weights_have_moved_and_are_finite_float32(trained, stage):
    kind = TRAININGS[stage]
    stored = {k: v for k, v in weights(trained, kind).items() if v.is_floating_point()}
    assert {v.dtype for v in stored.values()} == {torch.float32}
    assert all(v.isfinite().all() for v in stored.values())


@pytest.mark.parametrize("kind", ["prior", "decoder"])
def test_the_forward_process_is_stored_beside_the_weights(trained, kind):
    section = getattr(trained.params, kind)
    facts = json.loads((trained.layout.model(kind) / "model.json").read_text())["facts"]
    assert facts["diffusion"] == {
        key: getattr(section, key)
        for key in (
            *("num_timesteps", "schedule", "schedule_offset"),
            *("prediction_type", "timestep_density"),
        )
    }


def test_the_standardisation_of_the_prior_is_that_of_the_training_embeddings(trained):
    facts = json.loads((trained.layout.model("prior") / "model.json").read_text())["facts"]
    train = np.load(trained.layout.embeddings / "train.npy").astype(np.float64)
    assert facts["embed_mean"] == pytest.approx(train.mean(axis=0).tolist(), rel=1e-4, abs=1e-6)
    assert facts["embed_std"] == pytest.approx(train.std(axis=0, ddof=1).tolist(), rel=1e-3)
    task = task_of(trained, "train_prior")
    seen = (torch.from_numpy(np.array(task.train_embeds)) - task.mean) / task.std
    assert seen.mean(dim=0).abs().max() < 1e-3
    assert (seen.std(dim=0) - 1).abs().max() < 1e-3


def some_embeddings(count: int) -> np.ndarray:
    """In a narrow cone, as CLIP's are."""
    return (np.random.default_rng(0).normal(size=(count, 5)) * 0.01 + 0.4).astype(np.float32)


@pytest.mark.parametrize("count", [2, 999, 1000, 1001, 2500])
def test_mean_and_std_taken_in_chunks_are_those_of_the_whole(count):
    embeds = some_embeddings(count)
    mean, std = stages.train_prior.mean_and_std(embeds)
    exact = embeds.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(std, exact.std(axis=0, ddof=1), rtol=1e-13)


def test_the_size_of_the_chunks_changes_no_bit_of_mean_and_std(monkeypatch):
    found = []
    for size in (1, 7, 100, 1000, 5000):
        monkeypatch.setattr(stages.train_prior, "CHUNK", size)
        found.append([each.tobytes() for each in stages.train_prior.mean_and_std(
            some_embeddings(2500))])  # fmt: skip
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("stage", TRAININGS)
def test_metrics_are_the_kept_validation_figures_and_no_timings(trained, stage):
    metrics = json.loads(trained.layout.metrics(stage).read_text())
    with trained.layout.history(stage).open(newline="") as stream:
        losses = [float(row["val_loss"]) for row in csv.DictReader(stream) if row["val_loss"]]
    kept = min(losses) if stage in ("train_clip", "train_judge") else losses[-1]
    assert metrics["val_loss"] == pytest.approx(kept, rel=1e-5)
    assert not [key for key in metrics if "second" in key or "time" in key]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_network_learns_in_both_precisions(trained, tmp_path, precision):
    short = {"train_steps": 2, "warmup_steps": 0, "precision": precision}
    workspace = copy_of(trained, tmp_path / "copy", **dict.fromkeys(NETWORKS, short))
    workspace.run(*TRAININGS)
    for kind in NETWORKS:
        found = weights(workspace, kind).values()
        assert all(v.isfinite().all() for v in found)
        assert not any(v.dtype == torch.bfloat16 for v in found)
    for array in workspace.layout.embeddings.glob("*.npy"):
        assert np.load(array).dtype in (np.float32, np.bool_)


def test_half_precision_is_close_to_full_and_not_the_same(trained, tmp_path):
    full, half = (
        copy_of(trained, tmp_path / precision, decoder={"precision": precision})
        for precision in ("fp32", "bf16")
    )
    losses = []
    for workspace in (full, half):
        workspace.run("train_decoder")
        losses.append(json.loads(workspace.layout.metrics("train_decoder").read_text())["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


# Every draw is a function of the seed and the step


@pytest.mark.parametrize("stage", TRAININGS)
def test_validation_gives_the_same_number_every_time(trained, stage):
    task, model = task_of(trained, stage), network_of(trained, TRAININGS[stage])
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        with torch.inference_mode():
            found.append(task.validate(model))
    assert found[0] == found[1]


@pytest.mark.parametrize("stage", TRAININGS)
def test_validation_looks_at_the_first_val_pictures_and_at_no_others(trained, tmp_path, stage):
    kind = TRAININGS[stage]
    workspace = copy_of(trained, tmp_path / "copy", **{kind: {"val_pictures": 7}})
    layout, model = workspace.layout, network_of(workspace, kind)
    arrays = [*(layout.prepared / "val").iterdir(), layout.embeddings / "val.npy"]
    losses = []
    for spoiled in (slice(0), slice(7, None), slice(6, 7)):
        for path in arrays:
            array = np.load(path)
            array[spoiled] = 0
            np.save(path, array)
        with torch.inference_mode():
            losses.append(task_of(workspace, stage).validate(model)["val_loss"])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("stage", TRAININGS)
def test_the_loss_of_a_step_depends_on_no_step_before_it(trained, stage):
    model = network_of(trained, TRAININGS[stage])
    task = task_of(trained, stage)
    in_order = [float(task.loss(model, step)) for step in range(18)]
    torch.manual_seed(7)
    for step in (17, 3):  # an epoch is 13 steps
        assert float(task_of(trained, stage).loss(model, step)) == in_order[step]


@pytest.mark.parametrize("stage", TRAININGS)
def test_no_two_steps_draw_the_same(trained, stage):
    model, task = network_of(trained, TRAININGS[stage]), task_of(trained, stage)
    losses = [float(task.loss(model, step)) for step in range(13)]
    assert len(set(losses)) == 13


def test_the_validation_loss_of_the_prior_equals_a_naive_loop(trained):
    task, model = task_of(trained, "train_prior"), network_of(trained, "prior")
    prior, embeddings = trained.params.prior, Embeddings(trained.layout.embeddings)
    facts = json.loads((trained.layout.model("prior") / "model.json").read_text())["facts"]
    val = torch.from_numpy(np.load(trained.layout.embeddings / "val.npy"))
    x_start = (val - torch.tensor(facts["embed_mean"])) / torch.tensor(facts["embed_std"])
    captions = torch.from_numpy(np.load(trained.layout.prepared / "val" / "caption_index.npy"))
    draws = generator(prior.seed, "train_prior validation", 0)
    offset = torch.rand((), generator=draws, dtype=torch.float64)
    t = ((offset + torch.arange(len(val)) / len(val)) % 1 * prior.num_timesteps).long()
    noise = torch.randn(x_start.shape, generator=draws)
    alpha, sigma = (each[t].float()[:, None] for each in task.diffusion.alpha_and_sigma)
    x_t = alpha * x_start + sigma * noise
    total = 0.0
    for i, caption in enumerate(captions.long()):
        rows = caption[None]
        output = model(
            x_t[i : i + 1],
            t[i : i + 1],
            embeddings.encodings(rows),
            embeddings.captions[rows],
            embeddings.caption_mask[rows],
            torch.tensor([False]),
        )
        total += float((output - x_start[i]).square().mean())
    assert task.validate(model)["val_loss"] == pytest.approx(total / len(val), rel=1e-4)


# CLIP


def test_embeddings_are_those_of_the_stored_network(trained):
    model, data = network_of(trained, "clip"), Prepared(trained.layout.prepared)
    for split in ("train", "val", "test"):
        stored = np.load(trained.layout.embeddings / f"{split}.npy")
        assert len(stored) == data.counts[split]
        for row in (0, len(stored) - 1):
            image = data.normalisation.normalise(data.split(split).gather([row]))
            expected = model.encode_image(image)[0].numpy()
            assert stored[row] == pytest.approx(expected, abs=1e-5)


def test_captions_are_embedded_in_pieces_and_each_is_there(trained, workspace, monkeypatch):
    monkeypatch.setattr("stages.train_clip.READ_BATCH", 7)  # of 48 captions
    workspace.run("train_clip")
    for name in ("captions", "caption_encodings", "caption_mask"):
        whole = np.load(trained.layout.embeddings / f"{name}.npy")
        pieces = np.load(workspace.layout.embeddings / f"{name}.npy")
        assert pieces.dtype == whole.dtype
        np.testing.assert_allclose(pieces, whole, atol=1e-5)


@pytest.mark.parametrize("painted_in", ["fp32", "bf16"])
def test_caption_embeddings_are_those_that_a_prompt_will_get(trained, painted_in):
    from unclip.painting.loading import load_system

    embeddings, data = Embeddings(trained.layout.embeddings), Prepared(trained.layout.prepared)
    system = load_system(trained.layout.models)
    for row in (0, 17, len(data.captions) - 1):
        with torch.autocast("cpu", torch.bfloat16, enabled=painted_in == "bf16"):
            texts, _ = system.read([data.captions[row]])
        length = int(texts.mask.sum())
        torch.testing.assert_close(embeddings.captions[row], texts.embeds[0])
        cached = embeddings.encodings(torch.tensor([row]))[0]
        torch.testing.assert_close(cached[:length], texts.encodings[0])
        assert embeddings.caption_mask[row].tolist() == [
            i < length for i in range(embeddings.caption_mask.shape[1])
        ]


def test_the_words_of_training_captions_are_known_and_no_others(trained):
    facts = json.loads((trained.layout.model("clip") / "model.json").read_text())["facts"]
    data = Prepared(trained.layout.prepared)
    shown = np.load(trained.layout.prepared / "train" / "caption_index.npy")
    captions = [data.captions[i] for i in sorted(set(shown.tolist()))]
    assert facts["captions"] == captions
    assert facts["words"] == sorted({word for caption in captions for word in caption.split()})


def test_zero_shot_accuracy_equals_a_naive_loop(trained):
    folder, data = trained.layout.embeddings, Prepared(trained.layout.prepared)
    images, texts = (np.load(folder / f"{name}.npy") for name in ("test", "captions"))
    own = np.load(trained.layout.prepared / "test" / "caption_index.npy")
    right = {True: [], False: []}
    for embed, caption in zip(images, own, strict=True):
        nearest = max(range(len(texts)), key=lambda k: float(texts[k] @ embed))
        right[caption in data.held_out_captions].append(nearest == caption)
    metrics = json.loads(trained.layout.metrics("train_clip").read_text())
    assert metrics["zero_shot_accuracy"] == pytest.approx(np.mean(right[False]), rel=1e-5)
    assert metrics["zero_shot_accuracy_held_out"] == pytest.approx(np.mean(right[True]), rel=1e-5)


# The decoder


class Spy(nn.Module):
    """Remembers what a decoder is asked."""

    def forward(self, x_t, t, **conditions):
        self.seen = conditions
        return x_t


@pytest.fixture(scope="module")
def mirrored(trained, tmp_path_factory):
    """A workspace whose CLIP has embedded the mirrored pictures, too."""
    folder = tmp_path_factory.mktemp("mirrored") / "copy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        sections = {"clip": {"embed_flipped": True}, "decoder": {"flip": True}}
        return copy_of(trained, folder, **sections).run("train_clip")


def pictures_and_conditions(monkeypatch, workspace, step=0):
    """What `loss` makes of a step: pictures (B, C, H, W) in [0, 255] and the conditions."""
    task, spy, starts = task_of(workspace, "train_decoder"), Spy(), []
    original = Diffusion.loss

    def catch(diffusion, denoise, x_start, t, noise):
        starts.append(x_start)
        return original(diffusion, denoise, x_start, t, noise)

    with monkeypatch.context() as patch:
        patch.setattr(Diffusion, "loss", catch)
        task.loss(spy, step)
    return task.data.normalisation.to_uint8(starts[0]).numpy(), spy.seen


def whose(picture, images) -> list[int]:
    return [i for i, image in enumerate(images) if np.array_equal(image, picture)]


def test_a_mirrored_picture_comes_with_its_own_embedding(monkeypatch, mirrored):
    images = np.load(mirrored.layout.prepared / "train" / "images.npy")
    plain, flipped = (
        np.load(mirrored.layout.embeddings / f"{name}.npy") for name in ("train", "train_flipped")
    )
    pictures, seen = pictures_and_conditions(monkeypatch, mirrored)
    kinds = []
    for picture, embed in zip(pictures, seen["image_embeds"].numpy(), strict=True):
        (row,) = whose(picture, images) or whose(picture[..., ::-1], images)
        is_plain = bool(whose(picture, images))
        assert np.array_equal(embed, (plain if is_plain else flipped)[row])
        kinds.append(is_plain)
    assert set(kinds) == {True, False}


def test_the_embedding_of_a_mirrored_picture_is_clips(mirrored):
    model, data = network_of(mirrored, "clip"), Prepared(mirrored.layout.prepared)
    for split in ("train", "val"):
        stored = np.load(mirrored.layout.embeddings / f"{split}_flipped.npy")
        image = data.normalisation.normalise(data.split(split).gather([3]))
        expected = model.encode_image(image.flip(3))[0].numpy()
        assert stored[3] == pytest.approx(expected, abs=1e-5)


def test_flips_that_the_data_set_forbids_do_not_happen(monkeypatch, mirrored, tmp_path):
    workspace = copy_of(mirrored, tmp_path / "copy", **{"decoder": {"flip": True},
                        "clip": {"embed_flipped": True}})  # fmt: skip
    about = workspace.layout.prepared / "dataset.json"
    content = json.loads(about.read_text()) | {"allow_flip": False}
    about.write_text(json.dumps(content))
    images = np.load(workspace.layout.prepared / "train" / "images.npy")
    pictures, _ = pictures_and_conditions(monkeypatch, workspace)
    assert all(whose(picture, images) for picture in pictures)


def test_a_decoder_without_flips_learns_pictures_with_their_own_embeddings(monkeypatch, trained):
    images = np.load(trained.layout.prepared / "train" / "images.npy")
    embeds = np.load(trained.layout.embeddings / "train.npy")
    pictures, seen = pictures_and_conditions(monkeypatch, trained)
    for picture, embed in zip(pictures, seen["image_embeds"].numpy(), strict=True):
        (row,) = whose(picture, images)
        assert np.array_equal(embed, embeds[row])
    assert "text_tokens" not in seen


def test_flips_without_mirrored_embeddings_are_a_line_for_the_user(trained):
    from unclip.config.errors import UserError

    with pytest.raises(UserError, match=r"train_flipped\.npy: is missing"):
        Embeddings(trained.layout.embeddings).images("train", flipped=True)


def test_embedding_and_caption_are_dropped_each_for_itself(monkeypatch, trained, tmp_path):
    probabilities = {"image_drop_prob": 0.1, "caption_drop_prob": 0.5, "caption_depth": 1}
    sections = {"decoder": probabilities | {"caption_dim": 8, "batch_size": 1000}}
    workspace = copy_of(trained, tmp_path / "copy", **sections)
    drops = [pictures_and_conditions(monkeypatch, workspace, step)[1] for step in range(3)]
    image = torch.cat([seen["drop_mask"] for seen in drops]).float()
    caption = torch.cat([seen["text_drop_mask"] for seen in drops]).float()
    # 3000 draws: standard deviations 0.0055 and 0.0091
    assert float(image.mean()) == pytest.approx(0.1, abs=0.028)
    assert float(caption.mean()) == pytest.approx(0.5, abs=0.046)
    assert abs(float(torch.corrcoef(torch.stack([image, caption]))[0, 1])) < 0.09


def test_a_decoder_that_reads_captions_learns_and_paints(trained, tmp_path):
    reader = {"caption_depth": 1, "caption_dim": 8}
    workspace = copy_of(trained, tmp_path / "copy", decoder=reader).run("train_decoder", "sample")
    stored = weights(workspace, "decoder")
    assert any(name.startswith("conditioner.caption_encoder") for name in stored)
    assert workspace.layout.grid.exists()


@pytest.mark.parametrize("tokens", [1, 4])
def test_the_embedding_becomes_as_many_tokens_as_params_say(trained, tmp_path, tokens):
    sections = {"decoder": {"num_image_tokens": tokens, "train_steps": 1, "warmup_steps": 0}}
    workspace = copy_of(trained, tmp_path / "copy", **sections).run("train_decoder")
    dim = trained.params.clip.embed_dim
    stored = weights(workspace, "decoder")["conditioner.embed_to_tokens.weight"]
    assert stored.shape == (tokens * dim, dim)


def test_pictures_painted_during_training_are_made_at_their_interval(trained):
    names = sorted(path.name for path in trained.layout.painted_in_training.iterdir())
    assert names == ["step_000002.png", "step_000004.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_small_grid_is_that_of_torchvision(tmp_path, channels):
    pictures = torch.randint(0, 256, (8, channels, 5, 7), dtype=torch.uint8)
    stages.train_decoder.save_grid(pictures, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        found = np.asarray(image)[::4, ::4]
    sheet = make_grid(pictures, nrow=4, padding=2, pad_value=255)
    assert np.array_equal(found, sheet.permute(1, 2, 0).numpy()[1:-1, 1:-1])  # a thinner edge


def test_pictures_painted_during_training_show_real_ones_above_their_own_embeddings(trained):
    task, model = task_of(trained, "train_decoder"), network_of(trained, "decoder")
    shown = task.paint(model).numpy()
    images = np.load(trained.layout.prepared / "val" / "images.npy")
    captions = np.load(trained.layout.prepared / "val" / "caption_index.npy")
    rows = [whose(picture, images)[0] for picture in shown[: len(shown) // 2]]
    assert len(rows) == 12
    assert len({captions[row] for row in rows}) == 12  # one a caption, as far as captions go
    assert np.array_equal(task.paint(model).numpy(), shown)


# The judge


def test_unknown_attributes_are_left_out_of_the_loss():
    logits = [torch.randn(4, 3), torch.randn(4, 2)]
    attributes = torch.tensor([[0, -1], [2, 1], [-1, 0], [1, -1]])
    expected = 0.0
    for a, logit in enumerate(logits):
        known = [i for i in range(4) if attributes[i, a] >= 0]
        rows = [-logit[i].log_softmax(0)[attributes[i, a]] for i in known]
        expected += float(sum(rows)) / len(known)
    found = stages.train_judge.attribute_loss(logits, attributes)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_an_attribute_that_no_picture_of_a_batch_has_adds_nothing():
    logits = [torch.randn(4, 3, requires_grad=True), torch.randn(4, 2)]
    attributes = torch.tensor([[-1, 1]] * 4)
    alone = stages.train_judge.attribute_loss(logits[1:], attributes[:, 1:])
    found = stages.train_judge.attribute_loss(logits, attributes)
    assert float(found.detach()) == pytest.approx(float(alone))


def test_the_accuracy_of_the_judge_is_that_of_the_stored_network_on_test_pictures(trained):
    model, data = network_of(trained, "judge"), Prepared(trained.layout.prepared)
    test = data.split("test")
    logits = model(data.normalisation.normalise(torch.from_numpy(np.array(test.images))))
    answers = torch.stack([logit.argmax(1) for logit in logits], dim=1)
    right = (answers == test.attributes).all(dim=1).float().mean()
    metrics = json.loads(trained.layout.metrics("train_judge").read_text())
    assert metrics["test_joint_accuracy"] == pytest.approx(float(right), rel=1e-5)

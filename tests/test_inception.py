"""The Fréchet distance of papers, with weights that no paper has: random ones, made here."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchvision.models import inception_v3
from workspace import Workspace

from unclip.config.errors import UserError
from unclip.config.layout import Layout
from unclip.data.prepared import Prepared
from unclip.evaluation import inception
from unclip.evaluation.distances import FrechetReference, split_real
from unclip.evaluation.inception import Inception
from unclip.running.preflight import require_inception
from unclip.running.stage import exit_status

pytestmark = pytest.mark.usefixtures("on_cpu")


class Unloaded(FeatureExtractorInceptionV3):
    """The network as it is built, whatever the file says."""

    def load_state_dict(self, *ignored, **also_ignored):
        return None


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights that keep features as large as pixels are, layer after layer."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    network = Unloaded("random", ["2048"], feature_extractor_weights_path=str(path))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


@pytest.fixture
def named(weights, monkeypatch):
    monkeypatch.setenv("UNCLIP_INCEPTION_WEIGHTS", str(weights))
    return weights


def pictures(count: int, seed: int, channels: int = 3) -> np.ndarray:
    """Blocks of colour on 32 × 32, none like another."""
    draws = np.random.default_rng(seed)
    blocks = draws.integers(0, 256, (count, channels, 4, 4), dtype=np.uint8)
    return blocks.repeat(8, axis=2).repeat(8, axis=3)


def naive_frechet(one: torch.Tensor, other: torch.Tensor) -> float:
    """The trace of the root by singular values: exact where pictures are fewer than features."""
    one, other = one.double().numpy(), other.double().numpy()
    means = one.mean(0) - other.mean(0)
    rows = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (one, other)]
    root = np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum()
    return (means**2).sum() + sum((x**2).sum() for x in rows) - 2 * root


# The features


def test_the_features_are_those_of_torchmetrics(named):
    images = pictures(3, seed=1)
    theirs = NoTrainInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(named), antialias=False
    )
    found = Inception.open().features(images, "painted")
    assert found.shape == (3, 2048)
    assert float(found.std()) > 0.1
    torch.testing.assert_close(found, theirs(torch.from_numpy(images)), rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_how_pictures_are_batched(named, monkeypatch):
    images, network = pictures(3, seed=1), Inception.open()
    whole = network.features(images, "painted")
    monkeypatch.setattr(inception, "BATCH", 2)
    torch.testing.assert_close(network.features(images, "painted"), whole, rtol=1e-4, atol=1e-4)


def test_grey_pictures_are_seen_as_grey_ones_in_colour(named):
    grey, network = pictures(2, seed=1, channels=1), Inception.open()
    coloured = network.features(grey.repeat(3, axis=1), "painted")
    torch.testing.assert_close(network.features(grey, "painted"), coloured)


@pytest.mark.slow
def test_the_distance_is_that_of_torchmetrics_and_of_the_definition(named):
    painted, real = pictures(16, seed=1), pictures(24, seed=2) // 2
    network = Inception.open()
    features = network.features(painted, "painted"), network.features(real, "reference")
    found = FrechetReference.of(features[1]).distance(features[0])
    theirs = FrechetInceptionDistance(feature_extractor_weights_path=str(named), antialias=False)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(painted), real=False)
    assert found == pytest.approx(naive_frechet(*features), rel=1e-4)
    assert found == pytest.approx(float(theirs.compute()), rel=1e-4)


# In the stage


@pytest.mark.slow
def test_evaluate_adds_the_distance_and_its_floor(trained, named, tmp_path):
    from test_stages_training import copy_of

    sections = {"sample": {"num_judged": 32}, "evaluate": {"inception": True}}
    workspace = copy_of(trained, tmp_path / "copy", **sections)
    workspace.run("sample", "paint_controls", "evaluate")
    found = json.loads(workspace.layout.metrics("evaluate").read_text())
    data, network = Prepared(workspace.layout.prepared), Inception.open()
    captions = np.load(workspace.layout.judged / "caption_index.npy")
    seen = ~np.isin(captions, data.held_out_captions)
    painted = np.load(workspace.layout.judged / "images.npy")[seen]
    test = data.split("test")
    is_seen = ~torch.isin(test.caption_index, torch.tensor(data.held_out_captions))
    real = split_real(is_seen.nonzero()[:, 0], len(painted), workspace.params.evaluate.seed)
    reference = network.features(test.images[real.reference.numpy()], "reference")
    for name, images in (
        ("inception_frechet_distance", painted),
        ("inception_frechet_distance_floor", test.images[real.floor.numpy()]),
    ):
        expected = naive_frechet(network.features(images, "painted"), reference)
        assert found[name] == pytest.approx(expected, rel=1e-4), name


def test_it_is_off_as_the_laboratory_ships(trained):
    assert trained.params.evaluate.inception is False


# One line, before any work


@pytest.fixture
def layout(tmp_path) -> Layout:
    Workspace.at(tmp_path, evaluate={"inception": True})
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {params: [data]}}\n")
    return Layout(tmp_path)


def refusal(layout: Layout, capsys) -> str:
    """The one line in which any stage ends that is asked to run."""
    assert exit_status("prepare", lambda *_, **__: pytest.fail("it ran"), layout) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_without_the_package_the_first_stage_stops(layout, named, capsys, monkeypatch):
    monkeypatch.setattr("unclip.running.preflight.find_spec", lambda name: None)
    line = refusal(layout, capsys)
    assert line.startswith(
        "error: evaluate.inception: true needs a package that is not installed; "
    )
    assert "`pip install torch-fidelity`" in line


def test_without_weights_the_first_stage_stops(layout, capsys, monkeypatch):
    monkeypatch.delenv("UNCLIP_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr("unclip.running.preflight.setting", lambda name: None)
    line = refusal(layout, capsys)
    assert line.startswith("error: evaluate.inception: true needs Inception's weights; expected ")
    assert "UNCLIP_INCEPTION_WEIGHTS" in line


def test_a_missing_file_of_weights_is_named_at_the_first_stage(layout, capsys, monkeypatch):
    monkeypatch.setenv("UNCLIP_INCEPTION_WEIGHTS", str(layout.root / "none.pth"))
    line = refusal(layout, capsys)
    assert line.startswith(f"error: {layout.root / 'none.pth'}: there is no such file; expected ")


def test_with_package_and_weights_a_stage_runs(layout, named):
    assert exit_status("prepare", lambda *_, **__: None, layout) == 0
    assert require_inception() == named


def other_network():
    return inception_v3(weights=None, init_weights=False).state_dict()


@pytest.mark.parametrize(
    "content",
    [b"", b"these are no weights", b"PK\x03\x04", [1, 2], {}, {"fc.bias": torch.zeros(1)}, "other"],
    ids=["nothing", "text", "zip", "list", "no keys", "one key", "torchvision"],
)
def test_what_is_no_file_of_weights_is_refused_in_one_line(tmp_path, monkeypatch, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(other_network() if content == "other" else content, path)
    monkeypatch.setenv("UNCLIP_INCEPTION_WEIGHTS", str(path))
    with pytest.raises(UserError) as caught:
        Inception.open()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: is not a file of Inception's weights (")
    assert "UNCLIP_INCEPTION_WEIGHTS" in line


def test_weights_that_no_paper_uses_bring_a_warning(named, capsys, monkeypatch):
    Inception.open()
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith(f"warning: {named}: not the weights of published distances")
    own = hashlib.sha256(named.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(inception, "PUBLISHED", own)
    Inception.open()
    assert capsys.readouterr().err == ""

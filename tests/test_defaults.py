"""Where it stands how to paint: options, then the recipe of the checkpoints, then params.yaml."""

import re

import pytest
from dag import REPO
from tiny_params import tiny_params, write_params

from unclip.config.errors import UserError
from unclip.painting.options import painting_params_of
from unclip.params.loading import changed_sample, load_params

OURS = load_params(REPO / "params.yaml").sample


@pytest.fixture
def folder(tmp_path):
    """A folder with networks in its folder `models`, and no recipe yet."""
    (tmp_path / "models" / "decoder").mkdir(parents=True)
    return tmp_path


def recipe(folder, **sample):
    """Writes params that ship beside networks, with some values of their sample section changed."""
    params = tiny_params()
    params["sample"] |= {"guidance": 4.5} | sample
    write_params(folder / "params.yaml", params)
    return params


def test_without_a_recipe_beside_the_checkpoints_the_params_of_this_repository_count(folder):
    assert painting_params_of(folder).sample == OURS
    assert painting_params_of(folder / "models").sample == OURS


def test_the_recipe_beside_the_checkpoints_counts(folder):
    recipe(folder)
    for named in (folder, folder / "models"):
        assert painting_params_of(named).sample.guidance == 4.5


def test_a_recipe_among_the_checkpoints_comes_before_one_around_them(folder):
    recipe(folder)
    recipe(folder / "models", guidance=3.5)
    assert painting_params_of(folder / "models").sample.guidance == 3.5


def test_what_came_with_the_code_is_painted_by_its_own_recipe():
    pretrained = REPO / "pretrained" / "fashion_mnist"
    assert painting_params_of(pretrained).sample == load_params(pretrained / "params.yaml").sample


def test_options_win_over_the_recipe(folder):
    recipe(folder)
    sample = changed_sample(painting_params_of(folder), {"seed": 7})
    assert (sample.guidance, sample.seed) == (4.5, 7)


@pytest.mark.parametrize("lost", ["clip", "prior", "decoder"])
def test_a_painting_params_of_another_version_serves_if_its_sample_section_does(folder, lost):
    params = recipe(folder)
    del params[lost], params["judge"]["optimizer"]
    params["data"]["a_key_of_once"] = params["a_section_of_tomorrow"] = 1
    write_params(folder / "params.yaml", params)
    with pytest.raises(UserError):
        load_params(folder / "params.yaml")
    assert painting_params_of(folder).sample.guidance == 4.5


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *(("sample: [", "YAML"), ("just words", "the file"), ("", "the file"), (b"\xff", "read")),
        *(("clip: {}", "sample"), ("sample: 3", "sample")),
    ],
)
def test_a_recipe_that_is_none_is_one_line(folder, text, key):
    path = folder / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: .*{key}.*$"):
        painting_params_of(folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"eta": None}, "eta"),
        ({"guidence": 2}, r"guidence: unknown key.*sample\.guidance"),
        ({"steps": "many"}, "steps"),
        ({"steps": 1001}, r"steps: 1001 .*decoder\.num_timesteps"),
    ],
)
def test_a_sample_section_of_another_version_is_one_line(folder, changes, key):
    recipe(folder, **changes)
    with pytest.raises(UserError, match=rf"^.*params\.yaml: sample\.{key}.*$"):
        painting_params_of(folder)


def test_more_steps_than_the_recipe_has_timesteps_are_refused_before_any_painting(folder):
    recipe(folder)
    with pytest.raises(
        UserError, match=r"^options: sample\.prior_steps: 1001 .*prior\.num_timestep"
    ):
        changed_sample(painting_params_of(folder), {"prior_steps": 1001})

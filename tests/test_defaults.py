"""Where it stands how to paint: options, then the recipe of the checkpoints, then params.yaml."""

import pytest
from dag import REPO
from tiny_params import tiny_params, write_params

from unclip.config.errors import UserError
from unclip.painting.options import recipe_of, sample_params
from unclip.params.loading import load_params

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
    assert sample_params({}, recipe_of(folder)) == OURS
    assert sample_params({}, recipe_of(folder / "models")) == OURS


def test_the_recipe_beside_the_checkpoints_counts(folder):
    recipe(folder)
    for named in (folder, folder / "models"):
        assert sample_params({}, recipe_of(named)).guidance == 4.5


def test_a_recipe_among_the_checkpoints_comes_before_one_around_them(folder):
    recipe(folder)
    recipe(folder / "models", guidance=3.5)
    assert recipe_of(folder / "models").sample.guidance == 3.5


def test_what_came_with_the_code_is_painted_by_its_own_recipe():
    pretrained = REPO / "pretrained" / "fashion_mnist"
    assert recipe_of(pretrained).sample == load_params(pretrained / "params.yaml").sample


def test_options_win_over_the_recipe_and_those_left_out_do_not(folder):
    recipe(folder)
    sample = sample_params({"guidance": None, "seed": 7}, recipe_of(folder))
    assert (sample.guidance, sample.seed) == (4.5, 7)


@pytest.mark.parametrize("lost", ["clip", "prior", "decoder"])
def test_a_recipe_of_another_version_serves_if_its_sample_section_does(folder, lost):
    params = recipe(folder)
    del params[lost], params["judge"]["optimizer"]
    params["data"]["a_key_of_once"] = params["a_section_of_tomorrow"] = 1
    write_params(folder / "params.yaml", params)
    with pytest.raises(UserError):
        load_params(folder / "params.yaml")
    assert recipe_of(folder).sample.guidance == 4.5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sample: [", "not valid YAML: "),
        ("just words", "the file: 'just words' is not allowed; expected "),
        ("", "the file: null is not allowed; expected "),
        ("clip: {}", "sample: missing; "),
        ("sample: 3", "sample: 3 is not allowed; expected a section"),
        (b"\xff\xfe\x00", "cannot be read: "),
    ],
)
def test_a_recipe_that_is_none_is_one_line(folder, text, line):
    path = folder / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        recipe_of(folder)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda sample: sample.pop("eta"), "sample.eta: missing; "),
        (lambda sample: sample.update(guidence=2), "sample.guidence: unknown key (did you mean"),
        (lambda sample: sample.update(steps="many"), "sample.steps: 'many' is not allowed"),
        (lambda sample: sample.update(steps=1001), "sample.steps: 1001 is more than decoder.num_t"),
    ],
)
def test_a_sample_section_of_another_version_is_one_line(folder, change, line):
    params = recipe(folder)
    change(params["sample"])
    write_params(folder / "params.yaml", params)
    with pytest.raises(UserError) as caught:
        recipe_of(folder)
    assert str(caught.value).startswith(f"{folder / 'params.yaml'}: {line}")
    assert "\n" not in str(caught.value)


def test_more_steps_than_the_recipe_has_timesteps_are_refused_before_any_painting(folder):
    recipe(folder)
    with pytest.raises(UserError, match=r"^options: sample.prior_steps: 1001 is more than prior.n"):
        sample_params({"prior_steps": 1001}, recipe_of(folder))

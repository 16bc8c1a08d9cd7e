"""`python cli.py compare`: what is read, what stands out, the page."""

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_params import REPO, tiny_params

from unclip.comparison.experiments import (
    Comparison,
    Experiment,
    Row,
    figure_rows,
    param_rows,
    read_experiment,
)
from unclip.comparison.page import comparison_page
from unclip.config.errors import UserError
from unclip.painting.painted import Painted
from unclip.params.loading import load_painting_params


def experiment(name: str, figures=(), margins=(), **params: str) -> Experiment:
    values = {"data.dataset": "shapes"} | {k.replace("__", "."): v for k, v in params.items()}
    texts = {"params.yaml": yaml.safe_dump(tiny_params())}
    sample = read_experiment(name, "", texts, {}).sample
    return Experiment(name, "1234567", values, sample, dict(figures), dict(margins))


# What is read


def texts(params: dict, **figures: dict) -> dict[str, str]:
    files = {f"metrics/{name}.json": json.dumps(values) for name, values in figures.items()}
    return files | {"params.yaml": yaml.safe_dump(params)}


def test_an_experiment_is_read_from_its_files():
    headline = {"joint_accuracy": 0.5, "coverage": 0.25}
    evaluate = {"joint_accuracy_margin": 0.125, "frechet_distance_margin": 1.0, "per": {"a": 1}}
    found = read_experiment(
        "lr", "1234567", texts(tiny_params(), headline=headline, evaluate=evaluate), {"seed": 9}
    )
    assert (found.figures, found.margins) == (headline, {"joint_accuracy": 0.125})
    assert (found.sample.seed, found.sample.steps) == (9, 3)
    assert found.params["decoder.model_channels"] == "8"
    assert found.origin == "1234567, shapes"


def test_a_revision_of_older_params_is_read_as_long_as_its_sample_section_fits():
    params = tiny_params()
    del params["evaluate"]
    params["data"]["an_old_key"] = 1
    assert read_experiment("old", "", texts(params), {}).params["data.an_old_key"] == "1"


@pytest.mark.parametrize("section", [None, {"steps": None}, {"steps": "many"}, [1]], ids=str)
def test_a_sample_section_of_another_version_is_one_line(section):
    params = tiny_params()
    if isinstance(section, dict):
        params["sample"] |= section
    elif section is None:
        del params["sample"]
    else:
        params["sample"] = section
    with pytest.raises(UserError, match=r"^old: .*sample.*$"):
        read_experiment("old", "", texts(params), {})


@pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
def test_damaged_figures_are_one_line(content):
    files = texts(tiny_params()) | {"metrics/headline.json": content}
    with pytest.raises(UserError, match=r"^a: metrics/headline.json: is damaged"):
        read_experiment("a", "", files, {})


# What stands out


def test_figures_have_their_margins_and_what_is_missing_a_dash():
    first = experiment(
        "a", {"joint_accuracy": 0.86312, "frechet_distance": 12.3456}, {"joint_accuracy": 0.0186}
    )
    second = experiment("b", {"coverage": 0.16483})
    assert {row.label: row.cells for row in figure_rows([first, second])} == {
        "joint_accuracy": ["0.863 ± 0.019", "–"],
        "frechet_distance": ["12.35", "–"],
        "coverage": ["–", "0.1648"],
    }


@pytest.mark.parametrize(
    ("name", "values", "margin", "best"),
    [
        ("joint_accuracy", [0.5, 0.9, 0.6], 0.01, 1),
        ("joint_accuracy", [0.5, 0.9, 0.89], 0.01, None),
        ("frechet_distance", [5.0, 9.0, 1.0], 1.0, 2),
        ("frechet_distance", [5.0, 9.0, 4.0], 1.0, None),
        ("diversity", [0.5, 0.9, 0.6], 0.01, None),
        ("coverage", [0.5, 0.5, 0.5], 0.0, None),
    ],
)
def test_a_figure_stands_out_where_it_is_better_than_all_beyond_both_margins(
    name, values, margin, best
):
    experiments = [experiment(str(v), {name: v}, {name: margin}) for v in values]
    assert figure_rows(experiments)[0].best == best


def test_nothing_stands_out_among_figures_of_different_data_sets_or_where_one_is_missing():
    margins = {"joint_accuracy": 0.01}
    first, second = (
        experiment(name, {"joint_accuracy": v}, margins) for name, v in (("a", 0.9), ("b", 0.1))
    )
    assert figure_rows([first, second])[0].best == 0
    other = experiment("b", {"joint_accuracy": 0.1}, margins, data__dataset="fashion_mnist")
    assert figure_rows([first, other])[0].best is None
    assert figure_rows([first, second, experiment("c")])[0].best is None


@pytest.mark.parametrize("with_margin", [[], [0], [1]])
def test_a_figure_without_a_margin_does_not_stand_out_however_different(with_margin):
    experiments = [
        experiment(
            str(value),
            {"zero_shot_accuracy": value},
            {"zero_shot_accuracy": 0.01} if index in with_margin else {},
        )
        for index, value in enumerate((0.9, 0.1))
    ]
    assert figure_rows(experiments)[0].best is None


def test_only_params_that_differ_are_shown():
    first = experiment("a", decoder__lr="0.001", decoder__depth="2", clip__old="1")
    second = experiment("b", decoder__lr="0.003", decoder__depth="2")
    assert param_rows([first, second]) == [
        Row("decoder.lr", ["0.001", "0.003"]),
        Row("clip.old", ["1", "–"]),
    ]


# The page


def painted(num: int, size: int, channels: int, seed: int) -> Painted:
    draws = np.random.default_rng(seed)
    pictures = draws.integers(0, 256, (num, channels, size, size), dtype=np.uint8)
    notes = [{"prompt": "p", "seed": str(i), "index": str(i)} for i in range(num)]
    return Painted(pictures, notes, {})


@pytest.fixture
def comparison() -> Comparison:
    """Of three experiments: other sizes and channels, one without a prompt, names that attack."""
    names = ["main", "<script>alert(1)</script>", "a-very-long-name-" * 6]
    experiments = [
        experiment(n, {"joint_accuracy": i / 4}, decoder__lr=str(i)) for i, n in enumerate(names)
    ]
    cells = [
        [painted(2, 16, 3, 0), painted(2, 16, 3, 1), painted(2, 32, 1, 2)],
        [painted(2, 16, 3, 3), None, painted(2, 32, 1, 4)],
    ]
    prompts = ["a <b>large</b> circle & more", "a small blue star " * 6]
    figures, params = figure_rows(experiments), param_rows(experiments)
    return Comparison(experiments, figures, params, prompts, cells, ["One remark."])


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_needs_nothing_beside_it(comparison):
    text = comparison_page(comparison, "python cli.py compare a b")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "b"} & set(page.tags)
    assert "href" not in page.attributes
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)


def test_the_page_holds_every_picture_with_its_note(comparison):
    sources = Page(comparison_page(comparison, "")).sources
    cells = [cell for row in comparison.painted for cell in row if cell is not None]
    wanted = [pair for cell in cells for pair in cell]
    assert len(sources) == len(wanted) == 10
    for source, (picture, note) in zip(sources, wanted, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.text == note
            pixels = np.asarray(image)
        assert np.array_equal(
            pixels, picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        )


def test_the_page_says_what_the_table_says_and_escapes_it(comparison):
    page = Page(comparison_page(comparison, "python cli.py compare 'a b' c"))
    for text in (
        *(row.label for row in (*comparison.figures, *comparison.params)),
        *(cell for row in comparison.figures for cell in row.cells),
        *(e.name for e in comparison.experiments),
        *comparison.prompts,
        *comparison.remarks,
        "python cli.py compare 'a b' c",
    ):
        assert any(text in found for found in page.texts), text


# The command


@pytest.mark.parametrize("revs", [["workspace"], ["a", "b", "a"]], ids=" ".join)
def test_fewer_than_two_different_revisions_are_refused(refuse, revs):
    assert "two or more different revisions" in refuse("compare", *revs)


def test_a_revision_that_is_not_there_is_named(refuse, monkeypatch, tmp_path, trained):
    monkeypatch.chdir(trained.layout.root)
    line = refuse("compare", "workspace", "no-such-experiment", "--out", tmp_path)
    assert line.startswith("no-such-experiment: ")


def test_a_folder_without_params_is_one_line(refuse, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert refuse("compare", "workspace", "other").startswith("workspace: has no params.yaml")
    assert not list(Path().iterdir())


# What is painted


@pytest.fixture
def paint(monkeypatch, on_cpu):
    """Compares systems that learned nothing, an experiment each; gives what is shown."""
    from unclip.api import UnCLIP
    from unclip.commands import compare

    def paint_all(systems, experiments, prompts=()):
        recipe = load_painting_params(REPO / "params.yaml")
        opened = {
            experiment.name: UnCLIP(system, recipe.model_copy(update={"sample": experiment.sample}))
            for system, experiment in zip(systems, experiments, strict=True)
        }
        monkeypatch.setattr(compare, "_open", lambda experiment: opened[experiment.name])
        return compare._paint(experiments, prompts, NUM, SEED)

    return paint_all


NUM, SEED = 2, 5


def of_sample(name: str, **changes) -> Experiment:
    texts = {"params.yaml": yaml.safe_dump(tiny_params())}
    return read_experiment(name, "", texts, {"precision": "fp32"} | changes)


def test_each_experiment_paints_the_same_prompts_and_seeds_in_its_own_way(paint):
    from systems import random_system

    from unclip.painting.settings import Settings

    first, second = of_sample("a"), of_sample("b", guidance=7.0, prior_steps=2)
    system, prompts = random_system(), ["a red circle", "a blue star"]
    found = paint([system, system], [first, second], prompts)
    for column, experiment_ in enumerate((first, second)):
        settings = Settings.of(experiment_.sample, "cpu")
        expected = system.paint(prompts, [5, 6], settings)
        for row, prompt in enumerate(prompts):
            cell = found.painted[row][column]
            assert np.array_equal(cell.images, expected[row])
            assert [note["seed"] for note in cell.notes] == ["5", "6"]
            assert {note["prompt"] for note in cell.notes} == {prompt}
    assert not np.array_equal(found.painted[0][0].images, found.painted[0][1].images)


def test_the_notes_paint_the_pictures_again(paint):
    from systems import random_system

    from unclip.painting.notes import repaint

    system = random_system()
    found = paint([system, system], [of_sample("a"), of_sample("b", steps=2)])
    for cell in (cell for row in found.painted for cell in row):
        for picture, note in cell:
            assert np.array_equal(repaint(system, note), picture)


def test_of_different_precisions_all_are_painted_in_one(paint):
    from systems import random_system

    system = random_system()
    experiments = [of_sample("a", precision="fp32"), of_sample("b", precision="bf16")]
    found = paint([system, system], experiments)
    notes = [note for row in found.painted for cell in row for note in cell.notes]
    assert {note["precision"] for note in notes} == {"fp32"}
    assert any("precisions differ" in remark for remark in found.remarks)


def test_of_different_data_sets_each_paints_its_own_prompts_unless_some_are_chosen(paint):
    from systems import random_system

    ours = random_system()
    theirs = replace(ours, prompts=["a blue star", "an image of a bag"])
    other = of_sample("b")
    other = replace(other, params=other.params | {"data.dataset": "fashion_mnist"})
    found = paint([ours, theirs], [of_sample("a"), other])
    assert found.prompts == ["a red circle", "a blue star", "an image of a bag"]
    empty = [[cell is None for cell in row] for row in found.painted]
    assert empty == [[False, True], [False, False], [True, False]]
    assert any("different data sets" in remark for remark in found.remarks)
    chosen = paint([ours, theirs], [of_sample("a"), other], ["a red circle"])
    assert [cell is None for row in chosen.painted for cell in row] == [False, False]


def test_only_prompts_of_the_user_bring_a_warning(paint, capsys):
    from systems import random_system

    ours = replace(random_system(), prompts=["a hat"])
    experiments = [of_sample("a"), of_sample("b")]
    paint([ours, ours], experiments)
    assert "never trained" not in capsys.readouterr().err
    paint([ours, ours], experiments, ["a red hat"])
    assert "never trained: 'a red hat'" in capsys.readouterr().err


def test_two_revisions_become_a_page_that_says_how(run, monkeypatch, tmp_path, trained):
    """The workspace twice, once by a name that DVC would know."""
    from unclip.commands import compare

    monkeypatch.chdir(trained.layout.root)
    monkeypatch.setattr(
        "unclip.provenance.revisions.read_files",
        lambda rev, paths: ("", {"params.yaml": Path("params.yaml").read_text()}),
    )
    opened = compare._open(of_sample("workspace"))
    monkeypatch.setattr(compare, "_open", lambda experiment: opened)
    words = ["workspace", "again", "--prompt", "a large red circle", "--num", "1", "--seed", "4"]
    status, out, _ = run("compare", *words, "--out", tmp_path)
    assert (status, out.split()) == (0, [f"{tmp_path}/comparison.html"])
    again = "python cli.py compare workspace again --prompt 'a large red circle' --num 1 --seed 4"
    page = Page((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    assert again in page.texts
    assert len(page.sources) == 2

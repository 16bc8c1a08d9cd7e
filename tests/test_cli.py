import contextlib
import errno
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc_repo import Lab
from PIL import Image
from tiny_params import write_params

import cli
from unclip.commands.common import slugs
from unclip.pictures.png import as_image

REPO = Path(__file__).resolve().parent.parent
PAINT = ["--num", "2", "--seed", "7", "--steps", "3"]
KNOWN = "a large red circle"


def pictures(folder):
    return sorted(path.name for path in folder.iterdir())


# Help


def test_help_names_every_command(run):
    status, out, _ = run("--help")
    assert status == 0
    names = {command.callback.__name__ for command in cli.app.registered_commands}
    assert {"sample", "trace", "compare", "log", "sweep"} < names <= set(out.split())


@pytest.mark.parametrize("verb", ["sample", "vary", "interpolate", "edit", "trajectory"])
def test_help_of_a_verb_has_an_example_and_the_options_that_all_share(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert f"Example: python cli.py {verb}" in " ".join(out.split())
    for option in ("--seed", "--guidance", "--steps", "--rev", "--from", "--out"):
        assert option in out


def test_the_samplers_that_can_be_chosen_are_those_of_the_library(run):
    from unclip.diffusion.samplers import SAMPLERS

    for verb in ("sample", "trajectory"):
        assert "|".join(SAMPLERS) in " ".join(run(verb, "--help")[1].split())


# Mistakes: a line that names what is wrong, a status that is not 0, no traceback


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        *((["--num", "0"], "--num"), (["--num", "65"], "--num"), (["--num", "two"], "--num")),
        *((["--seed", "-1"], "--seed"), (["--seed", "1.5"], "--seed"), (["--nmu", "3"], "--nmu")),
        *((["--steps", "0"], "--steps"), (["--guidance", "-1"], "--guidance")),
        *((["--guidance", "nan"], "--guidance"), (["--guidance", "much"], "--guidance")),
        (["--sampler", "euler"], "'dpmpp_2m', 'ddim', 'ddpm'"),
    ],
    ids=" ".join,
)
def test_an_option_that_makes_no_sense_is_named(run, arguments, named):
    status, out, err = run("sample", "a", *arguments)
    assert (status, out) == (2, "")
    assert named in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--steps", "1000000"], "options: sample.steps: 1000000 is more than decoder.num_timest"),
        (["--seed", str(2**63)], "options: sample.seed: 9223372036854775808"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_value_that_params_would_refuse_is_one_line(refuse, trained, tmp_path, arguments, line):
    where = ["--from", trained.layout.root, "--out", tmp_path]
    assert refuse("sample", KNOWN, *arguments, *where).startswith(line)


def test_an_unknown_command_is_named(run):
    status, _, err = run("smaple")
    assert status == 2
    assert "smaple" in err


def test_where_nothing_is_trained_a_line_says_what_trains_it_and_what_paints_now(refuse, tmp_path):
    line = refuse("sample", "a", "--from", tmp_path)
    assert line.startswith(f"{tmp_path}: nothing is trained")
    assert "dvc repro" in line
    assert "--from pretrained/fashion_mnist" in line


def test_a_network_that_is_not_trained_yet_is_named(refuse, tmp_path):
    (tmp_path / "models" / "decoder").mkdir(parents=True)
    assert re.search(r"clip/.*is missing.*train_clip", refuse("sample", "a", "--from", tmp_path))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rev", "main", "--from", "here"], "--rev and --from: "),
        (["--rev", "no-such-experiment"], "--rev no-such-experiment: "),
        (["--from", "no-such-folder"], "--from no-such-folder: is no folder"),
    ],
    ids=["both", "no revision", "no folder"],
)
def test_checkpoints_that_are_not_there_are_named(refuse, monkeypatch, tmp_path, arguments, named):
    monkeypatch.chdir(tmp_path)
    assert refuse("sample", "a", *arguments).startswith(named)


def test_it_starts_where_python_looks_for_nothing_beside_a_script(tmp_path):
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    command = [sys.executable, REPO / "cli.py", "data", "--help"]
    assert (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    )


@pytest.mark.slow
def test_a_revision_whose_checkpoints_are_nowhere_is_one_line_that_says_how_to_have_them(tmp_path):
    lab = Lab.cloned(REPO, tmp_path / "lab")
    shutil.copy(REPO / "dvc.lock", lab.root)
    lab.start_git()
    done = lab.call(sys.executable, "cli.py", "sample", "--rev", "HEAD", "a")
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("error: --rev HEAD: ")
    assert "dvc fetch" in line


@pytest.fixture
def unpainted(monkeypatch):
    """Nothing may be painted."""
    monkeypatch.setattr("unclip.api.UnCLIP.sample", None)


def test_a_file_where_the_folder_should_be_is_named(refuse, trained, tmp_path, unpainted):
    (tmp_path / "out").write_text("")
    line = refuse("sample", KNOWN, "--from", trained.layout.root, "--out", tmp_path / "out")
    assert line.startswith(f"--out {tmp_path / 'out'}: ")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no such folder here")
def test_a_folder_that_nobody_can_write_in_is_named(refuse, trained, unpainted):
    line = refuse("sample", KNOWN, "--from", trained.layout.root, "--out", "/proc")
    assert line.startswith("--out /proc: ")


def test_a_disk_that_is_full_is_named(refuse, trained, tmp_path, monkeypatch, unpainted):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", lambda **_: Full())
    line = refuse("sample", KNOWN, "--from", trained.layout.root, "--out", tmp_path)
    assert line.startswith(f"--out {tmp_path}: ")
    assert os.strerror(errno.ENOSPC) in line
    assert pictures(tmp_path) == []


def test_a_file_that_can_not_be_written_after_all_is_one_line(run, trained, tmp_path):
    (tmp_path / "grid.png").mkdir()
    arguments = ["--from", trained.layout.root, "--out", tmp_path, *PAINT]
    status, _, err = run("sample", "a large red circle", *arguments)
    assert status == 1
    (said,) = [line for line in err.splitlines() if not line.startswith("painting")]
    assert re.fullmatch(r"error: \[Errno \d+\] .*grid\.png.*", said)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp1251", "cp437", "koi8-r"])
def test_what_a_terminal_cannot_show_is_replaced(trained, on_cpu, monkeypatch, tmp_path, encoding):
    (tmp_path / "metadata.csv").write_text(
        "file_name,text\n猫.png,猫 – rötlich\n", encoding="utf-8"
    )
    Image.new("RGB", (32, 32)).save(tmp_path / "猫.png")
    shown = []
    for arguments in (
        ("vary", "--help"),
        ("data", "check", tmp_path),
        ("sample", "猫 – rötlich", "--from", trained.layout.root, "--out", tmp_path / "猫", *PAINT),
        ("trace", tmp_path / "猫" / "grid.png"),
    ):
        out = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
        with contextlib.suppress(SystemExit):
            cli.main()
        shown.append(out.buffer.getvalue())
    assert all(shown)
    if encoding != "ascii":  # which Typer takes for UTF-8 that nobody has set
        assert all(b"?" in text for text in shown[1:])


def test_a_reader_who_goes_away_brings_no_traceback():
    command = [sys.executable, "-u", "cli.py", "sample", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=REPO, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        *((" \t ", "empty"), ("words " * 40, "239 bytes"), ("a\x02b", "control character 2")),
        ("\udcff", "surrogate"),
    ],
    ids=ascii,
)
def test_a_prompt_that_can_not_be_read_is_one_line(refuse, trained, tmp_path, prompt, what):
    out = tmp_path / "out"
    line = refuse("sample", "a circle", prompt, "--from", trained.layout.root, "--out", out)
    assert line.startswith("caption ")
    assert what in line
    assert not out.exists()


# Warnings


@pytest.mark.parametrize("prompt", ["a large red hat", "red large circle"])
def test_a_prompt_never_trained_is_named_beside_the_nearest_that_were(
    run, trained, tmp_path, prompt
):
    arguments = ["--from", trained.layout.root, "--out", tmp_path, *PAINT]
    status, _, err = run("sample", prompt, *arguments)
    assert status == 0
    (warning,) = [line for line in err.splitlines() if "never trained" in line]
    assert warning.startswith(f"warning: never trained: '{prompt}'")
    assert ("no caption has hat" in warning) == ("hat" in prompt)
    assert warning.count("'") == 8, "the prompt and three captions"
    assert "nearest known captions: 'a large red " in warning


def test_known_words_bring_no_warning(run, trained, tmp_path):
    arguments = ["--from", trained.layout.root, "--out", tmp_path, *PAINT]
    assert "warning" not in run("sample", "A LARGE red circle.", *arguments)[2]


@pytest.mark.parametrize("prompt", ["🐈 [red]", "é ü 漢字"])
def test_any_text_can_be_painted(run, trained, tmp_path, prompt):
    arguments = ["--from", trained.layout.root, "--out", tmp_path, *PAINT]
    status, _, err = run("sample", prompt, *arguments)
    assert status == 0
    assert prompt.split()[0] in err


# Pictures


def test_each_picture_has_a_file_and_the_grid_one_more(painted):
    assert pictures(painted) == [
        "a-large-red-circle_seed7.png",
        "a-large-red-circle_seed8.png",
        "a-small-blue-star_seed7.png",
        "a-small-blue-star_seed8.png",
        "grid.png",
    ]
    with Image.open(painted / "a-large-red-circle_seed7.png") as image:
        assert image.size == (16, 16)


def test_the_pictures_are_what_the_system_paints(painted, trained):
    from unclip.painting.loading import load_system
    from unclip.painting.settings import Settings

    sample = trained.params.sample.model_copy(update={"steps": 3})
    system = load_system(trained.layout.models)
    (expected,) = system.paint(["a small blue star"], [8], Settings.of(sample, "cpu"))[0]
    with Image.open(painted / "a-small-blue-star_seed8.png") as image:
        found = np.array(image).transpose(2, 0, 1)
    assert np.abs(found.astype(int) - expected).max() <= 2, "but for the rounding of a batch"


def test_painting_again_gives_the_same_bytes(run, painted, trained, tmp_path):
    prompts = ["a large red circle", "a small blue star"]
    run("sample", *prompts, *PAINT, "--from", trained.layout.root, "--out", tmp_path)
    for path in painted.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_pictures_that_replace_others_are_counted_and_the_same_ones_are_not(run, trained, tmp_path):
    arguments = ["--from", trained.layout.root, "--out", tmp_path, "--num", "2", "--steps", "2"]
    said = [
        run("sample", "a large red circle", *arguments, *more)[1]
        for more in ([], [], ["--seed", "2"], ["--guidance", "3"])
    ]
    assert all(f"{tmp_path / 'grid.png'}  and 2 pictures" in line for line in said)
    assert ["replaced: 2" in line for line in said] == [False, False, False, True]


def test_a_picture_carries_all_that_painted_it(painted, trained):
    from unclip.core.artifacts import weights_hash

    with Image.open(painted / "a-small-blue-star_seed8.png") as image:
        text = dict(image.text)
    for kind in ("clip", "prior", "decoder"):
        assert text.pop(f"checkpoint.{kind}") == weights_hash(trained.layout.model(kind))
    assert (text.pop("prompt"), text.pop("seed")) == ("a small blue star", "8")
    assert (text.pop("command"), text.pop("index")) == ("sample", "3")  # the last of two by two
    assert text.pop("prompts") == "a large red circle\na small blue star"
    assert (text.pop("seeds"), int(text.pop("batch_size")) > 0) == ("7 8", True)
    assert text.pop("decoder.steps") == "3"
    solver = {"sampler", "steps", "eta", "guidance", "spacing"}
    rest = {f"prior.{key}" for key in (*solver, "candidates")}
    rest |= {f"decoder.{key}" for key in solver - {"steps"}}
    assert set(text) == rest | {"precision"}


def test_no_picture_carries_a_time_a_host_or_a_commit(painted):
    with Image.open(painted / "grid.png") as image:
        image.load()
        assert set(image.info) == set(image.text)
        assert not [key for key in image.info if re.search(r"\b(time|date|host|commit)", key)]
        assert image.text["prompts"] == "a large red circle\na small blue star"
        assert image.text["seeds"] == "7 8"


def test_options_win_over_params(run, trained, tmp_path):
    options = {"--sampler": "ddim", "--guidance": "3.5", "--prior-guidance": "1.25"}
    flat = [part for pair in options.items() for part in pair]
    arguments = ["--num", "1", "--steps", "2", "--from", trained.layout.root, "--out", tmp_path]
    run("sample", "a large red circle", *flat, *arguments)
    with Image.open(tmp_path / "grid.png") as image:
        found = [image.text[k] for k in ("decoder.sampler", "decoder.guidance", "prior.guidance")]
    assert found == ["ddim", "3.5", "1.25"]


@pytest.mark.parametrize("verb", ["sample", "trajectory"])
def test_what_no_option_says_is_as_in_the_params_beside_the_checkpoints(
    run, trained, tmp_path, verb
):
    (tmp_path / "models").symlink_to(trained.layout.models.resolve())
    params = trained.params.model_dump()
    params["sample"] |= {"guidance": 4.5, "prior_guidance": 1.75}
    write_params(tmp_path / "params.yaml", params)
    out = tmp_path / "out"
    arguments = ["a large red circle", "--prior-guidance", "1.25", "--from", tmp_path, "--out", out]
    assert run(verb, *arguments)[0] == 0
    with Image.open(out / ("grid.png" if verb == "sample" else "trajectory.png")) as image:
        found = [image.text[key] for key in ("decoder.guidance", "prior.guidance")]
    assert found == ["4.5", "1.25"]


def test_params_beside_the_checkpoints_that_can_not_be_read_are_named(run, trained, tmp_path):
    (tmp_path / "models").symlink_to(trained.layout.models.resolve())
    (tmp_path / "params.yaml").write_text("sample: {guidance: much}")
    out = tmp_path / "out"
    for verb in (["sample", "a"], ["interpolate", "a", "b"], ["trajectory", "a"]):
        status, printed, err = run(*verb, "--from", tmp_path, "--out", out)
        assert (status, printed) == (1, "")
        assert all(line.startswith(f"error: {tmp_path}/params.yaml: ") for line in err.splitlines())
        assert not out.exists()


def test_without_a_prompt_the_data_sets_own_are_painted(run, trained, tmp_path):
    import json

    arguments = ["--num", "1", "--steps", "2", "--from", trained.layout.models, "--out", tmp_path]
    assert run("sample", *arguments)[0] == 0
    about = json.loads((trained.layout.prepared / "dataset.json").read_text())
    with Image.open(tmp_path / "grid.png") as image:
        assert image.text["prompts"].split("\n") == about["prompts"]


def test_prompts_that_look_alike_have_files_of_their_own(run, trained, tmp_path):
    arguments = ["--num", "1", "--steps", "2", "--from", trained.layout.root, "--out", tmp_path]
    run("sample", "a red circle", "A red circle!", "a red circle", *arguments)
    assert len(pictures(tmp_path)) == 4


def test_file_names_are_distinct_and_short_whatever_the_prompts():
    prompts = ["a b", "a-b", "a b--2", "🐈", "🐕", "漢" * 300, "../../etc", "", "con", "a b"]
    names = slugs(prompts)
    assert len(set(names)) == len(prompts)
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)
    assert all(len(name.encode()) <= 200 for name in names)


def test_a_grey_picture_has_one_channel():
    assert as_image(np.zeros((1, 4, 4), np.uint8)).mode == "L"
    assert as_image(np.zeros((3, 4, 4), np.uint8)).mode == "RGB"

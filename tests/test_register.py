"""What is given away through MLflow: its card, what it answers, and a server that holds out."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from dag import REPO
from import_graph import SOURCES, import_closure, imported_packages
from pages import blocks
from PIL import Image

from unclip.commands import register
from unclip.config.errors import UserError
from unclip.config.layout import KINDS
from unclip.pictures.png import read_png_text
from unclip.serving.card import model_card
from unclip.serving.service import MOST_PICTURES, SETTINGS, Service

PRETRAINED = REPO / "pretrained" / "fashion_mnist"
PROMPT = "An image of a sneaker"


def pixels(answer):
    with Image.open(io.BytesIO(base64.b64decode(answer["png"]))) as image:
        return np.asarray(image).copy()


# The card


def test_the_card_states_every_figure_as_evaluate_wrote_it():
    card = model_card(PRETRAINED, "usage")
    figures = json.loads((PRETRAINED / "evaluate.json").read_text(encoding="utf-8"))
    for name, digits in (("joint_accuracy", 3), ("recall", 3), ("frechet_distance", 2)):
        assert f"{figures[name]:.{digits}f} ± {figures[f'{name}_margin']:.{digits}f}" in card
    for name, digits in (("judge_real_accuracy", 3), ("frechet_distance_floor", 2)):
        assert f"| {figures[name]:.{digits}f} |" in card


def test_the_card_names_networks_by_the_hash_of_their_weights():
    card = model_card(PRETRAINED, "usage")
    for path in PRETRAINED.glob("*/model.safetensors"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in card


@pytest.fixture
def copied(tmp_path):
    """Copies the pretrained folder less some of its files."""

    def copy(*left_out):
        folder = tmp_path / "copy"
        shutil.copytree(PRETRAINED, folder, ignore=lambda _, names: set(names) & set(left_out))
        return folder

    return copy


def test_a_system_that_nobody_judged_gets_a_card_that_says_so(copied):
    card = model_card(copied("evaluate.json", "grid.png"), "usage")
    assert "Nobody has judged what it paints" in card
    assert "grid.png" not in card
    assert "painted | real" not in card


def test_a_figure_that_there_is_not_has_no_row(copied):
    folder = copied()
    figures = {"num_samples": 7, "frechet_distance": 1.5}
    (folder / "evaluate.json").write_text(json.dumps(figures), encoding="utf-8")
    card = model_card(folder, "usage")
    assert "| Fréchet distance | 1.50 | – |" in card
    assert "the judge sees" not in card


def test_figures_that_can_not_be_read_are_one_line(copied):
    folder = copied()
    (folder / "evaluate.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"evaluate\.json: .*`dvc repro"):
        model_card(folder, "usage")


def test_the_card_given_with_the_code_is_the_one_that_its_files_give():
    shown = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    usage = shown[shown.index("```sh") : shown.index("![")]
    size = re.compile(r"[\d.]+ MB")  # with the card, or before it was written
    assert size.sub("", model_card(PRETRAINED, usage)) == size.sub("", shown)


def test_of_a_trained_folder_is_gathered_what_a_folder_to_give_away_has(tmp_path):
    folder, places = tmp_path / "trained", {"evaluate.json": "metrics", "grid.png": "samples"}
    for path in PRETRAINED.rglob("*"):
        if path.is_file() and path.name != "README.md":
            inside = path.relative_to(PRETRAINED)
            above = places.get(path.name, "models" if len(inside.parts) > 1 else "")
            (folder / above / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / above / inside)
    register._gather(folder, tmp_path / "given")
    found = {path.relative_to(tmp_path / "given") for path in (tmp_path / "given").rglob("*.*")}
    assert found == {path.relative_to(PRETRAINED) for path in PRETRAINED.rglob("*.*")} - {
        Path("README.md")
    }
    for path in found:
        assert (tmp_path / "given" / path).read_bytes() == (PRETRAINED / path).read_bytes()


# Answers


@pytest.fixture(scope="module")
def service():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_DEVICE", "cpu")
        return Service.open(PRETRAINED)


def test_there_is_a_picture_for_each_prompt_and_seed(service):
    prompts = [PROMPT, "An image of a bag"]
    answers = service.answer(prompts, {"num": 2, "seed": 5, "steps": 2})
    assert [(each["prompt"], each["seed"]) for each in answers] == [
        (prompt, seed) for prompt in prompts for seed in (5, 6)
    ]
    assert {pixels(each).shape for each in answers} == {(32, 32)}
    assert len({pixels(each).tobytes() for each in answers}) == 4


def test_the_same_request_gets_the_same_bytes_and_another_seed_others(service):
    first, again, other = (
        service.answer([PROMPT], {"seed": seed, "steps": 2})[0]["png"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_every_setting_has_a_say(service):
    usual = service.answer([PROMPT], {"steps": 4})
    changes = {"seed": 9, "guidance": 4.0, "prior_guidance": 3.0, "steps": 5, "sampler": "ddpm"}
    assert set(changes) | {"num"} == set(SETTINGS)
    for key, value in changes.items():
        assert (
            pixels(service.answer([PROMPT], {"steps": 4, key: value})[0]) != pixels(usual[0])
        ).any()


def test_a_picture_carries_what_paints_it_again(service, tmp_path):
    from unclip.painting.notes import repaint

    answers = service.answer([PROMPT, "An image of a bag"], {"num": 2, "steps": 2})
    path = tmp_path / "picture.png"
    path.write_bytes(base64.b64decode(answers[3]["png"]))
    text = read_png_text(path)
    assert (text["prompt"], text["seed"]) == ("An image of a bag", str(answers[3]["seed"]))
    assert np.array_equal(repaint(service.unclip.system, text)[0], pixels(answers[3]))


def test_pictures_of_a_prompt_never_trained_come_with_the_nearest_captions(service):
    known, new = service.answer([PROMPT, "An image of a bat"], {"steps": 1})
    assert "warning" not in known
    assert "'An image of a bag'" in new["warning"]


@pytest.mark.parametrize(
    ("prompts", "settings", "line"),
    [
        ([], {}, "inputs: "),
        ([" "], {}, "caption ' ': "),
        (["words " * 40], {}, "239 bytes"),
        ([PROMPT], {"num": 0}, "num: 0 "),
        ([PROMPT], {"num": "two"}, "num: two "),
        ([PROMPT], {"num": 65}, "num: 65 "),
        ([PROMPT] * 10, {"num": 7}, "10 prompts are 70; "),
        ([PROMPT], {"steps": 0}, "steps: 0 "),
        ([PROMPT], {"steps": 1001}, "1001 is more than"),
        ([PROMPT], {"guidance": -1.0}, "guidance: -1.0 "),
        ([PROMPT], {"guidance": float("nan")}, "guidance: nan "),
        ([PROMPT], {"sampler": "euler"}, "sampler: 'euler' "),
        ([PROMPT], {"seed": -1}, "seed: -1 "),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_request_that_makes_no_sense_is_one_line(service, prompts, settings, line):
    with pytest.raises(UserError, match=f"^.*{line}.*$"):
        service.answer(prompts, settings)


def test_as_many_pictures_as_allowed_are_painted(service):
    assert len(service.answer([PROMPT] * 2, {"num": MOST_PICTURES // 2, "steps": 1})) == 64


# What is stored


def test_the_model_asks_for_the_packages_that_it_imports():
    names = {"PIL": "pillow", "yaml": "pyyaml", "pydantic_core": "pydantic"}
    # Of a repository and of raw data, which a served model has not.
    absent = {s for s in SOURCES if s.startswith(("unclip/provenance/", "unclip/datasets/"))}
    sources = import_closure("unclip/serving/mlflow_model.py", without=frozenset(absent))
    packages = {package for source in sources for package in imported_packages(source)}
    ours = packages - set(sys.stdlib_module_names) - {"unclip"}
    needed = {names.get(package, package) for package in ours}
    assert needed == set(register.REQUIREMENTS)


@pytest.mark.parametrize(
    "options",
    [
        *(["--name", "a/b"], ["--name", ""], ["--alias", "latest"], ["--alias", "v3"]),
        *(["--alias", "a b"], ["--from", "nowhere"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_before_any_work(refuse, at_root, options, tmp_path):
    assert refuse("register", *options).startswith(options[0])
    assert list(tmp_path.iterdir()) == []


def test_networks_without_their_params_are_refused(refuse, at_root, copied):
    assert "params.yaml: missing; " in refuse("register", "--from", copied("params.yaml"))


def test_where_nothing_is_recorded_nothing_is_registered(refuse):
    assert refuse("register", "--from", PRETRAINED).startswith("UNCLIP_TRACKING=off: ")


@pytest.fixture
def at_root(on_cpu, monkeypatch, tmp_path):
    """This process keeps its records in an empty folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("UNCLIP_TRACKING", "on")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def cli(root: Path, *arguments, **settings):
    command = [sys.executable, REPO / "cli.py", *map(str, arguments)]
    return subprocess.run(
        command, cwd=REPO, env=environment(root, **settings), capture_output=True, text=True
    )


def environment(root: Path, **settings) -> dict[str, str]:
    """A machine whose records lie in `root`."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    usual = {"UNCLIP_DEVICE": "cpu", "UNCLIP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return kept | usual | {"DVC_ROOT": str(root), "MLFLOW_DISABLE_TELEMETRY": "true"} | settings


# For real


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The folder with the store in which the pretrained system was registered.

    It has a record of an experiment that trained these networks, under the name "theirs".
    """
    from unclip.core.artifacts import weights_hash
    from unclip.tracking.store import now_ms, open_store

    root = tmp_path_factory.mktemp("registered")
    tags = {f"checkpoint.{kind}": weights_hash(PRETRAINED / kind) for kind in KINDS}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(root))
        store = open_store()
        store.create_run("unclip", "another's", {"checkpoint.clip": "0"}, now_ms())
        store.create_run("unclip", "theirs", tags, now_ms())
    done = cli(root, "register", "--from", PRETRAINED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("models:/unclip@champion: version 1, ")
    return root


def query(root, sql):
    """Returns what MLflow's own tables answer."""
    with closing(sqlite3.connect(root / "mlflow.db")) as tables:
        return tables.execute(sql).fetchall()


@pytest.fixture(scope="module")
def stored(registered):
    (description,) = registered.glob("mlruns/**/MLmodel")
    return description.parent


@pytest.mark.slow
def test_nothing_that_is_stored_is_pickled(stored):
    files = [path for path in stored.rglob("*") if path.is_file()]
    assert len(list(stored.rglob("model.safetensors"))) == 3
    assert not [path for path in files if path.suffix in (".pkl", ".pt", ".pth", ".bin", ".ckpt")]
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"], "a pickle's first byte"


@pytest.mark.slow
def test_what_is_stored_names_exact_versions_and_no_address(stored):
    lines = (stored / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in lines} >= set(register.REQUIREMENTS)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


@pytest.mark.slow
def test_a_card_lies_beside_the_networks_and_stands_in_the_registry(registered, stored):
    card = (stored / "artifacts" / "system" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# Fashion-MNIST: a small unCLIP")
    assert "mlflow models serve -m models:/unclip@champion --env-manager local" in card
    (shown,) = query(registered, "SELECT description FROM model_versions")[0]
    shipped = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in shipped.splitlines() if line.startswith("| Fréchet distance |")]
    assert row in shown
    assert "](" not in shown


@pytest.fixture
def at_registered(registered, monkeypatch):
    """This process registers where the pretrained system was; gives what MLflow lists there."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("UNCLIP_TRACKING", "on")
    monkeypatch.setenv("DVC_ROOT", str(registered))
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")
    return lambda: (
        query(registered, "SELECT model_id FROM logged_models WHERE lifecycle_stage = 'active'"),
        query(registered, "SELECT name, version FROM model_versions"),
        aliases(registered),
    )


@pytest.mark.slow
def test_a_model_that_is_broken_on_the_way_into_the_store_gets_no_version(
    at_registered, monkeypatch, tmp_path
):
    """The code here is sound and that which is stored is not, so only trying it can tell."""
    package = tmp_path / "unclip"
    shutil.copytree(register.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "serving" / "service.py").open("a", encoding="utf-8") as code:
        code.write("\nraise RuntimeError('broken on the way')\n")
    monkeypatch.setattr(register, "PACKAGE", package)
    before = at_registered()
    with pytest.raises(UserError, match=r"^.*does not paint: .*broken on the way.*$"):
        register.register("unclip", "champion", PRETRAINED)
    assert at_registered() == before


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
def test_a_trial_that_is_broken_off_leaves_nothing_in_the_store(at_registered, monkeypatch, error):
    from unclip.tracking import registry

    def broken_off(*_, **__):
        raise error("broken off")

    monkeypatch.setattr(registry.subprocess, "run", broken_off)
    before = at_registered()
    expected = error if error is KeyboardInterrupt else UserError
    with pytest.raises(expected, match=r"^broken off$"):
        register.register("unclip", "champion", PRETRAINED)
    assert at_registered() == before


def test_a_model_that_does_not_paint_is_one_line(monkeypatch):
    from unclip.tracking import registry

    done = subprocess.CompletedProcess([], 1, "", "a line\nthe last line\n")
    monkeypatch.setattr(registry.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(registry.TrackingError, match=r"^models:/m: .*: the last line$"):
        registry._try("sqlite://", "models:/m", PROMPT)


def aliases(root):
    return query(root, "SELECT alias, version FROM registered_model_aliases")


@pytest.mark.slow
def test_a_version_is_linked_to_the_record_of_the_experiment_that_trained_it(registered):
    linked = "SELECT runs.name FROM runs JOIN model_versions ON run_uuid = run_id WHERE version = 1"
    assert query(registered, linked) == [("theirs",)]


@pytest.mark.slow
def test_registered_again_the_alias_moves_on(registered):
    done = cli(registered, "register", "--from", PRETRAINED)
    assert done.stdout.startswith("models:/unclip@champion: version 2, "), done.stderr
    assert aliases(registered) == [("champion", 2)]


@pytest.fixture(scope="module")
def server(registered):
    """The address of `mlflow models serve`, run in another folder than this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/unclip@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    log = registered / "server.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=registered,
            env=environment(registered),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(log.read_text())
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(address, content, kind="application/json"):
    """Returns status and body of a request, of whatever JSON or bytes."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_a_hundred_requests_ten_at_a_time_are_all_answered(server):
    def request(seed):
        return ask(server, {"inputs": [PROMPT], "params": {"seed": seed}})

    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(request, range(100)))
    assert {status for status, _ in replies} == {200}
    pictures = [body["predictions"] for _, body in replies]
    assert [each["seed"] for (each,) in pictures] == list(range(100))
    assert len({pixels(each).tobytes() for (each,) in pictures}) == 100
    _, alone = request(42)
    assert alone["predictions"] == pictures[42], "what else is painted changes nothing"


@pytest.mark.slow
def test_the_server_paints_what_the_command_line_paints(server, tmp_path):
    done = cli(
        tmp_path, "sample", PROMPT, "--from", PRETRAINED, "--num", 2, "--seed", 3, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    status, body = ask(server, {"inputs": [PROMPT], "params": {"num": 2, "seed": 3}})
    assert status == 200
    for answer in body["predictions"]:
        with Image.open(tmp_path / f"an-image-of-a-sneaker_seed{answer['seed']}.png") as image:
            assert np.array_equal(np.asarray(image), pixels(answer))


@pytest.mark.slow
def test_the_code_in_the_documentation_does_what_it_says(server, registered, tmp_path):
    asking, loading = blocks("docs/serving.md", "python")
    loading += "\nprint([picture['seed'] for picture in pictures])"
    settings = {"MLFLOW_TRACKING_URI": f"sqlite:///{registered}/mlflow.db"}
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment(registered, **settings),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for code in (asking.replace("http://127.0.0.1:5001", server), loading)
    ]
    assert said[1].splitlines()[-1] == "[7, 8]"
    for seed in (7, 8):
        assert read_png_text(tmp_path / f"sneaker_{seed}.png")["seed"] == str(seed)


@pytest.mark.slow
def test_the_request_in_the_documentation_is_answered(server):
    (command,) = [block for block in blocks("docs/serving.md") if block.startswith("curl ")]
    command = command.replace("http://127.0.0.1:5001", server)
    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=True)
    predictions = json.loads(done.stdout)["predictions"]
    assert [(each["prompt"], each["seed"]) for each in predictions] == [(PROMPT, 7), (PROMPT, 8)]
    assert all(pixels(each).shape[:2] == (32, 32) for each in predictions)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"inputs": [""]}, "caption"),
        ({"inputs": []}, "inputs: there are none"),
        ({"inputs": [5]}, "Expected type str, but got int"),
        ({"inputs": PROMPT}, "Expected list, but got str"),
        ({"inputs": [PROMPT], "params": {"num": 0}}, "num: 0 "),
        ({"inputs": [PROMPT], "params": {"num": 1.5}}, "num"),
        ({"inputs": [PROMPT], "params": {"seed": 2**70}}, "seed"),
        ({"inputs": [PROMPT], "params": [1]}, "Parameters must be a dictionary"),
        ({"inputs": [PROMPT], "params": {"steps": 100000}}, "steps: 100000 is more than"),
        ({"inputs": [PROMPT], "params": {"guidance": -1}}, "guidance: -1.0 "),
        ({"prompts": [PROMPT]}, "must be a dictionary with 'inputs' key"),
        ([PROMPT], "Received a list"),
        (b"{", "valid JSON"),
        (b"\xff", "valid JSON"),
    ],
    ids=str,
)
def test_a_bad_request_gets_400_and_the_reason(server, content, why):
    status, body = ask(server, content)
    assert status == 400, body
    assert why in body
    assert "Traceback" not in body

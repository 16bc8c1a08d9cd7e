import ast
import json
import os
import subprocess
import sys

import pytest
from dag import REPO, STAGES, code_deps, data_deps, downstream, is_within, outs
from import_graph import SOURCES, import_closure
from tiny_params import leaves, tiny_params

from unclip.datasets.registry import DATASETS
from unclip.params.sections import Params

# Code that checks, shows and records, and can change no byte of what a stage makes.
EXEMPT = frozenset(
    source
    for source in SOURCES
    if source.startswith(
        tuple(f"unclip/{name}/" for name in ("config", "params", "running", "tracking"))
    )
)
TRAININGS = [stage for stage in STAGES if stage.startswith("train_")]

every_stage = pytest.mark.parametrize("stage", STAGES)


def code_of(stage: str) -> ast.Module:
    return ast.parse((REPO / "stages" / f"{stage}.py").read_text(encoding="utf-8"))


def listed(stage: str) -> set[str]:
    """The files of code that a stage declares, by themselves or by their folder."""
    return {
        source
        for source in SOURCES
        if not source.endswith("__init__.py")
        and any(is_within(source, dep) for dep in code_deps(stage))
    }


def closure(stage: str) -> set[str]:
    return import_closure(f"stages/{stage}.py", without=EXEMPT)


@every_stage
def test_a_stage_declares_all_code_that_it_imports(stage):
    assert closure(stage) - listed(stage) == set()


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_training_declares_no_code_that_neither_it_nor_a_stage_before_it_imports(stage):
    before = [other for other in STAGES if stage in downstream({other})]
    assert listed(stage) - set().union(*map(closure, before)) == set()


def test_dvc_yaml_can_be_read_like_a_table_of_contents():
    counts = [len(code_deps(stage)) for stage in STAGES]
    assert max(counts) <= 10
    assert sum(counts) <= 70


@pytest.mark.parametrize("source", sorted(EXEMPT))
def test_what_no_stage_declares_is_declared_by_none(source):
    assert [stage for stage in STAGES if source in listed(stage)] == []


@every_stage
def test_every_code_dep_exists(stage):
    assert [dep for dep in code_deps(stage) if not (REPO / dep).exists()] == []


@every_stage
def test_the_deps_of_a_stage_are_sorted(stage):
    assert STAGES[stage]["deps"] == sorted(STAGES[stage]["deps"])


@every_stage
def test_a_stage_runs_the_file_of_its_name(stage):
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    names = [
        ast.literal_eval(node.value)
        for node in code_of(stage).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAGE"
    ]
    assert names == [stage]


def test_every_file_in_stages_is_a_stage():
    files = {path.stem for path in (REPO / "stages").glob("*.py")} - {"__init__"}
    assert files == set(STAGES)


@every_stage
def test_the_params_of_a_stage_are_what_its_run_takes(stage):
    run = next(n for n in code_of(stage).body if isinstance(n, ast.FunctionDef) and n.name == "run")
    taken = [argument.arg for argument in run.args.args]
    sections = dict.fromkeys(key.split(".")[0] for key in STAGES[stage]["params"])
    assert taken == ["layout", *([] if run.args.kwarg else sections)]
    if run.args.kwarg:  # takes whatever there is, and so depends on all of it
        assert list(sections) == list(Params.model_fields)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    """stage → the values and files that it read, and the files that it wrote, on tiny params."""
    done = subprocess.run(
        [sys.executable, REPO / "tests/recorded_stages.py", tmp_path_factory.mktemp("recorded")],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO), "UNCLIP_TRACKING": "off", "UNCLIP_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@every_stage
def test_a_stage_reads_every_value_that_it_declares_and_no_other(recorded, stage):
    if stage == "report":  # it declares all, to stand for the state of the whole pipeline
        assert set(STAGES[stage]["params"]) == set(tiny_params())
        return
    listed = STAGES[stage]["params"]
    declared = {
        key for key in leaves(tiny_params()) if key in listed or key.split(".")[0] in listed
    }
    # A data set reads its own section inside its class, where no note is taken.
    of_data_sets = tuple(f"data.{name}." for name in (*DATASETS, "chosen"))
    noted = {key for key in recorded[stage]["values"] if not key.startswith(of_data_sets)}
    assert noted == {key for key in declared if not key.startswith(of_data_sets)}


@pytest.mark.slow
@every_stage
def test_what_a_stage_writes_is_an_out_of_it_and_of_no_other(recorded, stage):
    owners = {
        file: [owner for owner in STAGES for out in outs(owner) if is_within(file, out)]
        for file in recorded[stage]["written"]
    }
    assert owners == {file: [stage] for file in recorded[stage]["written"]}


@pytest.mark.slow
@every_stage
def test_a_stage_writes_each_of_its_outs(recorded, stage):
    written = recorded[stage]["written"]
    assert [out for out in outs(stage) if not any(is_within(f, out) for f in written)] == []


@pytest.mark.slow
@every_stage
def test_a_stage_reads_nothing_but_its_deps(recorded, stage):
    known = [*data_deps(stage), *outs(stage)]
    read = recorded[stage]["files"]
    assert [file for file in read if not any(is_within(file, path) for path in known)] == []


@pytest.mark.slow
@every_stage
def test_a_stage_reads_something_of_each_of_its_deps(recorded, stage):
    read = recorded[stage]["files"]
    # A folder that params name is read by the data set of own pictures alone.
    fixed = [dep for dep in data_deps(stage) if not dep.startswith("${")]
    assert [dep for dep in fixed if not any(is_within(f, dep) for f in read)] == []


def test_the_folder_of_own_pictures_is_the_one_dep_that_params_name():
    assert [dep for stage in STAGES for dep in data_deps(stage) if dep.startswith("${")] == [
        "${data.image_folder.folder}"
    ]
    assert (REPO / tiny_params()["data"]["image_folder"]["folder"]).is_dir()

import ast
import subprocess
import sys

import pytest
from import_graph import REPO, SOURCES, imported_files, imported_packages

OUTSIDE = ("benchmarks", "cli", "tests", "tools")
SLOW_TO_IMPORT = ("accelerate", "dvc", "matplotlib", "mlflow", "numpy", "torch", "torchvision")


def below(*roots: str) -> list[str]:
    """The files in these folders, or the files themselves."""
    found = [source for source in SOURCES if source.startswith(roots)]
    assert found, f"nothing in {roots}: the walk sees no files"
    return found


def importers(package: str) -> list[str]:
    return [source for source in SOURCES if package in imported_packages(source)]


@pytest.mark.parametrize("source", below("unclip/"))
def test_the_package_knows_neither_stages_nor_the_command_line(source):
    assert imported_packages(source).isdisjoint({"stages", *OUTSIDE})


@pytest.mark.parametrize("source", below("stages/"))
def test_a_stage_imports_no_other_stage_and_no_command_line(source):
    assert imported_packages(source).isdisjoint({"stages", *OUTSIDE})


def test_the_command_line_imports_stages_only_to_profile_them():
    assert imported_packages("cli.py").isdisjoint({"benchmarks", "tests", "tools"})
    tree = ast.parse((REPO / "cli.py").read_text(encoding="utf-8"))
    users = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and "stages" in ast.unparse(node).split()
    ]
    assert users == ["profile"]


@pytest.mark.parametrize("source", below("unclip/diffusion/"))
def test_the_mathematics_knows_nothing_else_of_ours(source):
    assert imported_files(source) <= set(below("unclip/diffusion/"))


@pytest.mark.parametrize("source", below("unclip/models/"))
def test_the_networks_know_nothing_else_of_ours(source):
    assert imported_files(source) <= set(below("unclip/models/"))


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        (
            "mlflow",
            [
                "unclip/serving/mlflow_model.py",
                "unclip/tracking/registry.py",
                "unclip/tracking/store.py",
            ],
        ),
        (
            "safetensors",
            ["unclip/core/artifacts.py", "unclip/commands/doctor.py", "unclip/running/state.py"],
        ),
        (
            "pydantic",
            [
                *(
                    "unclip/core/artifacts.py",
                    "unclip/painting/checkpoints.py",
                    "unclip/data/prepared.py",
                ),
                *("unclip/params.py", "unclip/serving/studio.py", "unclip/config/strict.py"),
            ],
        ),
        ("dvc", ["unclip/provenance/dvc_history.py", "unclip/provenance/revisions.py"]),
    ],
)
def test_one_module_alone_imports_(package, owners):
    assert importers(package) == owners


BEFORE_TORCH = {"stages/__init__.py", "unclip/__init__.py"}  # how threads wait: it moves no bit
INITS = {source for source in SOURCES if source.endswith("__init__.py")} - BEFORE_TORCH


@pytest.mark.parametrize("source", sorted(INITS))
def test_an_init_file_is_empty_so_that_an_edit_reruns_no_stage(source):
    assert (REPO / source).read_bytes() == b""


@pytest.mark.parametrize("source", SOURCES)
def test_no_import_is_hidden_from_this_walk(source):
    tree = ast.parse((REPO / source).read_text(encoding="utf-8"))
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {getattr(call, "attr", getattr(call, "id", None)) for call in called}
    assert names.isdisjoint({"import_module", "__import__", "exec", "run_path", "run_module"})


@pytest.mark.parametrize(
    "arguments", [["--help"], ["sample", "--help"], ["data", "check", "--help"]]
)
def test_help_imports_nothing_slow(arguments):
    script = (
        "import atexit, sys, cli\n"
        f"slow = {SLOW_TO_IMPORT!r}\n"
        "atexit.register(lambda: print('slow:', [name for name in slow if name in sys.modules]))\n"
        f"sys.argv = ['cli.py', *{arguments!r}]\n"
        "cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "slow: []"

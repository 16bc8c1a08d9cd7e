"""What holds of the code as a whole, read from its source."""

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

import pytest
from import_graph import REPO, SOURCES, imported_files, imported_packages

# From the bottom to the top: a name imports only what stands before its own line.
ORDER = """
config
core
pictures data diffusion models
datasets
params
running
tracking
training
painting
evaluation
provenance
comparison
api
serving
commands
stages
cli
"""
LEVELS = {name: level for level, line in enumerate(ORDER.split("\n")) for name in line.split()}
ALONE = ("diffusion", "models")  # they import nothing else of ours
SILENT = ("core", "data", "diffusion", "models", "training")
PLAIN = {"unclip/api.py"}
MOST_LINES, MOST_OF_A_FUNCTION = 300, 60


def part_of(source: str) -> str:
    """The name in ORDER of a file: its folder, or itself."""
    first, *rest = source.removesuffix(".py").split("/")
    return rest[0] if first == "unclip" and rest else first


@cache
def tree_of(source: str) -> ast.Module:
    return ast.parse((REPO / source).read_text(encoding="utf-8"))


MODULES = [source for source in SOURCES if not source.endswith("__init__.py")]


def test_every_file_has_a_place_in_the_order():
    assert {part_of(source) for source in MODULES} == set(LEVELS)


@pytest.mark.parametrize("source", MODULES)
def test_imports_go_downwards(source):
    own = part_of(source)
    for name in {part_of(found) for found in imported_files(source)} - {own}:
        assert LEVELS[name] < LEVELS[own], f"{source} imports {name}"
        assert own not in ALONE, f"{source} imports {name}"


def test_no_stage_imports_another():
    stages = [source for source in MODULES if part_of(source) == "stages"]
    assert not [source for source in stages if "stages" in imported_packages(source)]


def test_a_walk_sees_every_import():
    """None hides in a call, and none of tests, tools or benchmarks is one."""
    for source in SOURCES:
        calls = {node.func for node in ast.walk(tree_of(source)) if isinstance(node, ast.Call)}
        names = {getattr(call, "attr", getattr(call, "id", None)) for call in calls}
        assert names.isdisjoint({"import_module", "__import__", "exec", "run_path", "run_module"})
        assert imported_packages(source).isdisjoint({"benchmarks", "tests", "tools"})


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        ("mlflow", {"serving/mlflow_model", "tracking/registry", "tracking/store"}),
        ("safetensors", {"core/artifacts", "running/state"}),
        ("pydantic", {"config/", "data/", "datasets/", "params/", "serving/page_requests"}),
        ("dvc", {"params/overrides", "provenance/dvc_history"}),
    ],
)
def test_few_modules_alone_import_(package, owners):
    found = {source for source in SOURCES if package in imported_packages(source)}
    assert {s for s in found if not s.startswith(tuple(f"unclip/{o}" for o in owners))} == set()


def test_an_init_file_is_empty_but_for_how_threads_wait():
    before_torch = {"stages/__init__.py", "unclip/__init__.py"}
    inits = set(SOURCES) - set(MODULES) - before_torch
    assert not [source for source in inits if (REPO / source).read_bytes()]


def test_few_modules_lie_in_no_folder():
    lying = {source for source in MODULES if source.count("/") == 1 and source[:6] == "unclip"}
    assert lying <= PLAIN


@pytest.mark.parametrize("source", MODULES)
def test_a_module_is_short(source):
    assert len((REPO / source).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def functions(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("source", MODULES)
def test_a_function_is_short(source):
    assert {n: lines for n, lines in functions(source) if lines > MOST_OF_A_FUNCTION} == {}


def test_a_public_class_has_a_name_of_its_own():
    places = defaultdict(list)
    for source in SOURCES:
        for node in ast.walk(tree_of(source)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(source)
    assert {name: sources for name, sources in places.items() if len(sources) > 1} == {}


@pytest.mark.parametrize("source", [s for s in MODULES if part_of(s) in SILENT])
def test_what_retrains_when_it_changes_says_nothing_to_users(source):
    called = {
        node.func.id
        for node in ast.walk(tree_of(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"UserError", "print"})


# Help

SLOW = {"accelerate", "dvc", "matplotlib", "mlflow", "numpy", "PIL", "torch", "torchvision"}
SHOW_HELP = (
    "import atexit, sys, cli\n"
    "atexit.register(lambda: print('\\nIMPORTED', *sys.modules))\n"
    "sys.argv = ['cli.py', *sys.argv[1:], '--help']\n"
    "cli.main()\n"
)


@cache
def imported_by_help(*words: str) -> set[str]:
    command = [sys.executable, "-c", SHOW_HELP, *words]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    return {name.partition(".")[0] for name in done.stdout.partition("\nIMPORTED ")[2].split()}


@pytest.mark.parametrize("words", [[], ["sample"], ["data", "check"]], ids=" ".join)
def test_help_imports_nothing_slow(words):
    assert imported_by_help(*words) & SLOW == set()


def test_help_imports_no_pydantic():
    assert "pydantic" not in imported_by_help()


def test_help_is_instant():
    """Beside what Typer alone takes, which is as slow as we are on a busy machine."""
    ours, bare = ["cli.py", "--help"], ["-c", "import typer.rich_utils"]
    assert min(seconds_of(ours) for _ in range(3)) < 2 * min(seconds_of(bare) for _ in range(3))


def seconds_of(arguments: list[str]) -> float:
    """The processor time of Python with these arguments."""
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime

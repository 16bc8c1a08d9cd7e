import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parent.parent
# All that the set-up may ask of a machine, apart from Python.
COMMANDS = """
    awk cat chmod cmp cp cut dirname du git grep make mkdir rm sed sh sleep
"""

# Stands in for a Python of any version: builds a hollow .venv, notes each call of pip, and answers
# questions (`-c`) with a real interpreter that is told to be that version and to lack some modules.
FAKE_PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m venv")
    mkdir -p .venv/bin
    cp {path} .venv/bin/python
    printf '#!/bin/sh\\ncommand -v python >dvc.log\\necho "dvc $*" >>dvc.log\\n' >.venv/bin/dvc
    chmod +x .venv/bin/dvc
    echo "#!$PWD/.venv/bin/python" >.venv/bin/pip
    echo built >>venv.log ;;
"-m pip")
    cat .venv/requirements.txt >>pip.log
    exit "${{FAKE_PIP_STATUS:-0}}" ;;
-c*)
    exec {real} -S -c 'import sys
sys.version_info = {version}
sys.modules.update(dict.fromkeys({lacks}))
exec(sys.argv.pop(2))' "$@" ;;
*)
    exec {real} "$@" ;;
esac
"""


@dataclass
class Clone:
    """A clone of the set-up files whose PATH holds a few commands and the given Pythons."""

    root: Path
    bin: Path
    home: Path

    def add_python(self, name: str, version: tuple[int, int, int], lacks: tuple[str, ...] = ()):
        path = self.bin / name
        path.write_text(
            FAKE_PYTHON.format(
                path=path, real=sys.executable, version=version, lacks=json.dumps(lacks)
            )
        )
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1"}
        return subprocess.run(
            command, cwd=self.root, env=env | variables, capture_output=True, text=True, timeout=120
        )

    def setup(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("sh", "tools/setup.sh", **variables)

    def log(self, name: str) -> str:
        path = self.root / name
        return path.read_text() if path.exists() else ""

    def depend_on(self, *requirements: str) -> None:
        listed = ", ".join(f'"{requirement}"' for requirement in requirements)
        (self.root / "pyproject.toml").write_text(f"[project]\ndependencies = [{listed}]\n")


@pytest.fixture
def clone(tmp_path):
    clone = Clone(tmp_path / "lab", tmp_path / "bin", tmp_path / "home")
    for folder in (clone.root, clone.bin, clone.home):
        folder.mkdir()
    for command in COMMANDS.split():
        real = shutil.which(command)
        assert real, f"{command} is not on PATH"
        (clone.bin / command).symlink_to(real)
    shutil.copy(REPO / "Makefile", clone.root)
    shutil.copytree(REPO / "tools", clone.root / "tools")
    clone.depend_on("pytest>=1")
    clone.run("git", "init", "--quiet")
    return clone


def assert_one_line(result, *words):
    """The set-up stopped, and its one line on stderr holds the words."""
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("setup: ")
    for word in words:
        assert word in result.stderr


def test_a_python_that_is_too_old_is_named_in_one_line(clone):
    clone.add_python("python3", (3, 9, 2))
    assert_one_line(clone.setup(), "3.11 or newer", "python3 is 3.9.2", "PYTHON=")
    assert not (clone.root / ".venv").exists()


def test_without_any_python_one_line_says_so(clone):
    assert_one_line(clone.setup(), "3.11 or newer", "python3: not found")


def test_a_newer_python_beside_an_old_python3_is_found(clone):
    clone.add_python("python3", (3, 9, 2))
    clone.add_python("python3.12", (3, 12, 1))
    result = clone.setup()
    assert result.returncode == 0, result.stderr
    assert "Python 3.12.1" in result.stdout


def test_a_python_that_is_asked_for_is_taken_before_a_good_python3(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.add_python("mine", (3, 13, 0))
    assert "Python 3.13.0" in clone.setup(PYTHON="mine").stdout


def test_a_python_that_is_asked_for_and_missing_is_never_replaced(clone):
    clone.add_python("python3", (3, 11, 2))
    assert_one_line(clone.setup(PYTHON="mine"), "mine: not found")


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_its_venv_module_is_named_in_one_line(clone, module):
    clone.add_python("python3", (3, 11, 2), lacks=(module,))
    assert_one_line(clone.setup(), "python3 (3.11.2)", "apt install python3-venv")


def test_a_folder_without_git_gets_one_line_before_anything_is_installed(clone):
    clone.add_python("python3", (3, 11, 2))
    shutil.rmtree(clone.root / ".git")
    assert_one_line(clone.setup(), "git init")
    assert not (clone.root / ".venv").exists()


def test_without_an_identity_the_repository_gets_one_of_its_own_and_is_told(clone):
    clone.add_python("python3", (3, 11, 2))
    result = clone.setup()
    name = clone.run("git", "config", "--local", "user.name").stdout.strip()
    email = clone.run("git", "config", "--local", "user.email").stdout.strip()
    assert name
    assert f"{name} <{email}>" in result.stdout
    assert list(clone.home.iterdir()) == []
    clone.run("git", "add", "Makefile")
    assert clone.run("git", "commit", "--quiet", "-m", "first").returncode == 0


def test_an_identity_that_git_knows_stays_untouched(clone):
    clone.add_python("python3", (3, 11, 2))
    (clone.home / ".gitconfig").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    before = (clone.root / ".git/config").read_bytes()
    assert "identity" not in clone.setup().stdout
    assert (clone.root / ".git/config").read_bytes() == before


def test_half_an_identity_is_completed_and_not_replaced(clone):
    clone.add_python("python3", (3, 11, 2))
    (clone.home / ".gitconfig").write_text("[user]\nname = Ada\n")
    clone.setup()
    assert clone.run("git", "config", "user.name").stdout == "Ada\n"
    assert clone.run("git", "config", "user.email").stdout != ""


def test_a_second_run_installs_nothing(clone):
    clone.add_python("python3", (3, 11, 2))
    assert clone.setup().returncode == 0
    second = clone.setup()
    assert second.returncode == 0
    assert "nstall" not in second.stdout
    assert clone.log("pip.log") == "pytest>=1\n"


def test_a_changed_dependency_is_installed_into_the_same_environment(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.setup()
    clone.depend_on("pytest>=2")
    clone.setup()
    assert clone.log("pip.log") == "pytest>=1\npytest>=2\n"
    assert clone.log("venv.log") == "built\n"


def test_a_changed_tool_section_installs_nothing(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.setup()
    with (clone.root / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\nline-length = 90\n")
    clone.setup()
    assert clone.log("pip.log") == "pytest>=1\n"


def test_a_failed_installation_gets_one_line_and_is_tried_again(clone):
    clone.add_python("python3", (3, 11, 2))
    assert_one_line(clone.setup(FAKE_PIP_STATUS="1"), "pip could not install", "Network")
    assert clone.setup().returncode == 0
    assert clone.log("pip.log") == "pytest>=1\n" * 2


def test_a_package_that_is_missing_is_named_and_installed_again(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.depend_on("no-such-package")
    clone.setup()
    assert "not installed: no-such-package" in clone.setup().stderr
    assert clone.log("pip.log") == "no-such-package\n" * 2


def test_a_broken_pyproject_gets_one_line(clone):
    clone.add_python("python3", (3, 11, 2))
    (clone.root / "pyproject.toml").write_text("[project\n")
    result = clone.setup()
    assert result.returncode == 1
    assert result.stderr.startswith("pyproject.toml: ")
    assert result.stderr.count("\n") == 1


def test_the_torch_index_reaches_pip_and_later_runs_remember_it(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.setup(FAKE_PIP_STATUS="1", TORCH_INDEX="https://example.org/cpu")
    clone.setup()
    clone.setup()
    assert clone.log("pip.log") == "--extra-index-url https://example.org/cpu\npytest>=1\n" * 2


def test_another_torch_index_builds_the_environment_afresh(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.setup()
    clone.setup(TORCH_INDEX="https://example.org/cpu")
    assert clone.log("venv.log") == "built\n" * 2


def test_a_moved_clone_builds_its_environment_afresh(clone):
    clone.add_python("python3", (3, 11, 2))
    clone.setup()
    clone.root = clone.root.rename(clone.root.with_name("moved"))
    assert clone.setup().returncode == 0
    assert clone.log("venv.log") == "built\n" * 2


def test_an_environment_that_is_a_link_is_never_emptied(clone, tmp_path):
    clone.add_python("python3", (3, 12, 1))
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    (other / "bin" / "pip").write_text("#!/elsewhere/.venv/bin/python\n", encoding="utf-8")
    (clone.root / ".venv").symlink_to(other)
    assert_one_line(clone.setup(), ".venv is a link")
    assert (other / "bin" / "pip").exists()
    assert not (clone.root / "venv.log").exists()


def test_make_run_repros_inside_the_environment_and_then_says_where_things_are(clone):
    clone.add_python("python3", (3, 11, 2))
    for folder in ("metrics", "samples"):
        (clone.root / folder).mkdir()
    (clone.root / "metrics/headline.json").write_text('{"joint_accuracy": 0.9312}')
    (clone.root / "samples/grid.png").touch()
    result = clone.run("make", "run")
    assert result.returncode == 0, result.stderr
    assert clone.log("dvc.log") == f"{clone.root}/.venv/bin/python\ndvc repro\n"
    for words in ("samples/grid.png", "0.931", "mlflow ui", ". .venv/bin/activate", "dvc exp run"):
        assert words in result.stdout


def test_ci_runs_make_test(clone):
    (clone.bin / "bash").symlink_to(shutil.which("bash"))
    (clone.bin / "make").unlink()
    (clone.bin / "make").write_text('#!/bin/sh\necho "$PWD: make $*"\n')
    (clone.bin / "make").chmod(0o755)
    assert clone.run("bash", str(REPO / ".ci/run")).stdout == f"{REPO}: make test\n"


def test_what_dvc_keeps_is_ignored_by_git_and_what_git_keeps_is_not(clone):
    shutil.copy(REPO / ".gitignore", clone.root)
    stages = yaml.safe_load((REPO / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                path, options = next(iter(out.items())) if isinstance(out, dict) else (out, {})
                kept_by_dvc = options.get("cache", True) or path == "report.json"
                ignored = clone.run("git", "check-ignore", "--quiet", path).returncode == 0
                assert ignored == kept_by_dvc, path

"""Print what pyproject.toml asks for, one requirement a line, development extras included.

The packages are installed from this list and not with `pip install .`: nothing of the laboratory
itself may land in site-packages, or a DVC experiment would run that code instead of its snapshot.
With --check it prints nothing, and fails naming the packages that are not installed.
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def is_installed(requirement: str) -> bool:
    """Returns whether the package is there in any version; pip judges the versions."""
    try:
        distribution(re.split(r"[^\w.-]", requirement)[0])
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Print the list, or check it."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        sys.exit(f"{path.name}: {error}; expected a [project] table with its dependencies")
    lines = sum(project.get("optional-dependencies", {}).values(), project["dependencies"])
    if "--check" not in sys.argv[1:]:
        print("\n".join(lines))
    elif missing := [line for line in lines if not is_installed(line)]:
        sys.exit(f"not installed: {', '.join(missing)}")


if __name__ == "__main__":
    main()

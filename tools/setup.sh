#!/bin/sh
# Makes .venv, installs what pyproject.toml asks for, and gives git what DVC needs of it.
# `make` runs it before everything else, so with nothing to do it takes a fraction of a second.
#
#   PYTHON       the Python to build .venv from; otherwise the first on PATH that is new enough
#   TORCH_INDEX  a further package index for the torch build; remembered in .venv
set -eu
unset CDPATH

cd "$(dirname "$0")/.."
root=$(pwd -P)
python=.venv/bin/python
# What was asked for, and a copy of it made only when all of it is installed.
wanted=.venv/requirements.txt
installed=.venv/installed.txt

say() { printf '%s\n' "$*"; }

stop() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

prepare_git() {
    command -v git >/dev/null || stop "git is not installed, and DVC needs it"
    answer=$(git rev-parse --git-dir 2>&1) ||
        stop "DVC needs a git repository (git init makes one), and git says: $answer"
    # `dvc exp run` makes commits, and fails half-way without a name and an e-mail address.
    if ! git config user.name >/dev/null || ! git config user.email >/dev/null; then
        git config user.name >/dev/null || git config user.name "unCLIP Lab"
        git config user.email >/dev/null || git config user.email "unclip-lab@localhost"
        say "git knew no full identity, which 'dvc exp run' needs; in this repository alone it is now" \
            "\"$(git config user.name) <$(git config user.email)>\" (change: git config user.name NAME)"
    fi
    git rev-parse --quiet --verify HEAD >/dev/null ||
        say "no commit yet, which 'dvc exp run' needs: git add -A && git commit -m 'unCLIP Lab'"
}

# Prints the version of the Python $1, if it runs at all; fails where it is too old.
version_of() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null
}

# Sets `base` to a Python that is new enough, and `version` to its version, or stops.
find_python() {
    set -- python3 python3.14 python3.13 python3.12 python3.11 python
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
    found=
    for base in "$@"; do
        if version=$(version_of "$base"); then
            "$base" -c 'import ensurepip, venv' 2>/dev/null || stop "$base ($version) comes without its" \
                "venv module: install it (on Debian and Ubuntu: apt install python3-venv), then the same again"
            return
        fi
        [ -z "$version" ] || found="${found:+$found, }$base is $version"
    done
    stop "Python 3.11 or newer is needed (${found:-$1: not found}):" \
        "install one, or name it: make run PYTHON=/path/to/python3.12"
}

remembered_index() { sed -n 's/^--extra-index-url //p' "$wanted" 2>/dev/null || true; }

# Sets `reason` to why .venv can be neither used nor completed; empty where it can.
judge_venv() {
    reason=
    if [ ! -d .venv ]; then
        reason="there is none yet"
    elif ! version=$(version_of "$python"); then
        reason="its Python does not run, or is older than 3.11"
    elif ! grep -qF "$root/.venv/bin/" .venv/bin/pip 2>/dev/null; then
        reason="it is incomplete, or was made in another folder"
    elif [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$version" ]; then
        reason="before: $version"
    elif [ -f "$wanted" ] && [ "$index" != "$(remembered_index)" ]; then
        reason="another torch build is asked for"
    fi
}

show_progress() {
    seconds=0
    # Ends with the script even where that is killed; the redirection keeps `sleep` off our output,
    # which a pipe behind us would otherwise wait for.
    while sleep 15 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 15))
        say "  $seconds s, $(du -sh .venv | cut -f1) in .venv"
    done
}

install() {
    say "Installing the packages${index:+, with the torch build of $index}; some minutes."
    [ -n "$index" ] || say "On Linux the CUDA parts of torch make it 2.6 GB to download and 7 GB on disk." \
        "No NVIDIA GPU? About a quarter of that: Ctrl-C, then" \
        "make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    # pip unpacks into TMPDIR; here it is on the disk that must be large enough anyway. Python compiles a
    # file when it is first imported, and most never are.
    mkdir -p .venv/tmp
    show_progress &
    trap "kill $! 2>/dev/null; rm -rf .venv/tmp" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    TMPDIR=$root/.venv/tmp "$python" -m pip install --quiet --disable-pip-version-check --progress-bar off \
        --no-compile --requirement "$wanted" || stop "pip could not install the packages; its own words stand above." \
        "Network down? Run the same again later. No torch for Python $version? Name another:" \
        "make run PYTHON=python3.13"
    cp "$wanted" "$installed"
    say "Installed. To use it by hand: . .venv/bin/activate"
}

prepare_git
index=${TORCH_INDEX:-$(remembered_index)}
judge_venv
if [ -n "$reason" ]; then
    # To build it anew would empty the folder that the link leads to.
    [ ! -L .venv ] || stop ".venv is a link, and what it leads to cannot be used here ($reason):" \
        "remove the link, and an environment of this folder's own is built"
    find_python
    say "Building .venv with Python $version ($reason)."
    "$base" -m venv --clear .venv || stop "could not build .venv with $base; its own words stand above"
fi
{
    [ -z "$index" ] || say "--extra-index-url $index"
    "$python" tools/requirements.py
} >"$wanted"
if ! cmp -s "$wanted" "$installed" || ! "$python" tools/requirements.py --check; then
    rm -f "$installed"
    install
fi

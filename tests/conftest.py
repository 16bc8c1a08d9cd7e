import os

import pytest

# Tiny tensors gain nothing from a second thread, and lose much where a neighbour wants the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("UNCLIP_THREADS", "1")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny Workspace in which everything but evaluate has run. Not to be written to."""
    from workspace import Workspace  # torch takes seconds to import, and many tests need none

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCLIP_TRACKING", "off")
        patch.setenv("UNCLIP_DEVICE", "cpu")
        stages = ("prepare", "train_clip", "train_prior", "train_decoder", "train_judge", "sample")
        return Workspace.at(tmp_path_factory.mktemp("trained")).run(*stages)


@pytest.fixture
def on_cpu(monkeypatch) -> None:
    """Stages run on the CPU and tell MLflow nothing."""
    monkeypatch.setenv("UNCLIP_TRACKING", "off")
    monkeypatch.setenv("UNCLIP_DEVICE", "cpu")

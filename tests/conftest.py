import pytest
from workspace import Workspace


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Workspace:
    """A tiny workspace in which everything but evaluate has run. Not to be written to."""
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

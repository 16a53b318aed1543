import pytest

from hf_vipriors.experiments import side_by_side


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Trainings come one after another, in this process: others take seconds to begin."""
    monkeypatch.setattr(side_by_side, "usable_cores", lambda: 1)

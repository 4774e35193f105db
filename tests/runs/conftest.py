"""One finished run that several tests look at."""

import pytest

TINY = (
    "logger=csv",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "data.n_train=256",
    "measure.rotation.n_images=60",
    "measure.rotation.n_boot=100",
    "measure.rotation.action.degrees=[90, 180, -90, 45]",
)


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides that make the default experiment a matter of a second."""
    return TINY


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny):
    """The folder of a finished run."""
    from udl_lab.configuration import compose
    from udl_lab.runs.execute import execute

    path = tmp_path_factory.mktemp("run") / "finished"
    return execute(compose([*tiny, f"run_dir={path}"]))

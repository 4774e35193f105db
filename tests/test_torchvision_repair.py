"""torchvision imports beside a torch of another build, and nothing else is papered over.

Each case runs in a process of its own: operators are declared once for the life of a process.
"""

import os
import subprocess
import sys
import textwrap

import pytest

REPAIR = "from udl_lab.torchvision_repair import repair\n"


@pytest.fixture
def python(tmp_path):
    """Runs a program, with a torchvision of the test's making if it writes one."""

    def run(program, torchvision=None):
        if torchvision is not None:
            folder = tmp_path / "torchvision"
            folder.mkdir()
            (folder / "__init__.py").write_text(textwrap.dedent(torchvision))
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )

    return run


def test_data_lightning_and_torchvision_import_in_a_fresh_process(python):
    done = python(
        """
        import udl_lab.data
        import lightning
        import torchvision
        from torchvision.transforms import v2
        from udl_lab.torchvision_repair import repair
        repair()
        import sys
        assert sys.modules["torchvision"] is torchvision  # a second repair does nothing
        """
    )
    assert done.returncode == 0, done.stderr


# Fails as torchvision does when its own library does not load: at the first operator it decorates.
NEEDS_TWO = """
    import torch
    for name in ("nms", "roi_align"):
        torch.library.register_fake(f"torchvision::{name}", lambda *args: args[0])
    imported = True
"""


def test_every_missing_operator_is_declared_once(python):
    done = python(
        """
        import torch
        from udl_lab.torchvision_repair import repair
        define, defined = torch.library.define, []
        torch.library.define = lambda name, schema: (defined.append(name), define(name, schema))
        repair()
        repair()
        import torchvision
        assert torchvision.imported
        assert defined == ["torchvision::nms", "torchvision::roi_align"], defined
        """,
        NEEDS_TWO,
    )
    assert done.returncode == 0, done.stderr


def test_an_operator_that_exists_is_not_declared_again(python):
    """Declaring it twice would abort the process: here torchvision's own library has loaded."""
    done = python(
        """
        import torch
        from udl_lab.torchvision_repair import repair
        define, defined = torch.library.define, []
        torch.library.define = lambda name, schema: (defined.append(name), define(name, schema))
        repair()
        assert defined == ["torchvision::nms"], defined  # the fake torchvision's own
        """,
        """
        import torch
        torch.library.define("torchvision::nms", "(Tensor a, Tensor b, float c) -> Tensor")
        torch.library.register_fake("torchvision::nms", lambda *args: args[0])
        """,
    )
    assert done.returncode == 0, done.stderr


def test_another_failure_of_the_import_is_not_hidden(python):
    done = python(REPAIR + "repair()", "raise RuntimeError('the disk is on fire')")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: the disk is on fire")


def test_an_operator_that_stays_missing_ends_the_repair(python):
    """Not an endless loop."""
    done = python(
        REPAIR + "repair()", "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("operator torchvision::nms does not exist")


def test_a_machine_without_torchvision_needs_no_repair(python):
    done = python(REPAIR + "repair()", "raise ModuleNotFoundError('No module named torchvision')")
    assert done.returncode == 0, done.stderr

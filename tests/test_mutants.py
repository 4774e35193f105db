"""The list of mutants fits the code, and the program that plants them tells all outcomes apart.

That every mutant is killed takes minutes: `make mutants` shows it.
"""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LISTS = sorted((ROOT / "tests" / "mutants").glob("*.yaml"))
MUTANTS = [mutant for path in LISTS for mutant in yaml.safe_load(path.read_text())]
every_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant["name"])


def test_mutants_were_found_and_their_names_differ():
    assert len({mutant["name"] for mutant in MUTANTS}) == len(MUTANTS) > 0


@every_mutant
def test_a_mutant_changes_one_place_of_a_file_and_leaves_it_a_program(mutant):
    text = (ROOT / mutant["file"]).read_text()
    assert text.count(mutant["old"]) == 1, "the list is stale: put the new text there"
    changed = text.replace(mutant["old"], mutant["new"])
    assert changed != text
    compile(changed, mutant["file"], "exec")


@every_mutant
def test_the_tests_that_should_notice_a_mutant_exist(mutant):
    assert mutant["tests"]
    for test in mutant["tests"]:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text()


@pytest.fixture
def plant(monkeypatch):
    """The program, as `python tests/mutants/plant.py` runs it."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "mutants"))
    return importlib.import_module("plant")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A repository with one function, and one test of it."""
    # Its tests need no plugin but the one that plant.py gives an option; the others load for 3 s.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_timeout")
    files = {
        "udl_lab/__init__.py": "",
        "udl_lab/half.py": "def half(x):\n    return x / 2\n",
        "tests/test_half.py": "from udl_lab.half import half\n\n\n"
        "def test_half_of_4_is_2():\n    assert half(4) == 2\n",
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def third(plant):
    return plant.Mutant("a third", "", "udl_lab/half.py", "/ 2", "/ 3", ("tests/test_half.py",))


def test_mutants_that_are_killed_and_that_survive_are_told_apart(plant, third, small, capsys):
    same = replace(third, name="the same", new="* 0.5")
    before = {path: path.read_text() for path in small.rglob("*") if path.is_file()}
    assert plant.run([third, same], small) == 1
    *_, head, _, killed, survived, count = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["mutant", "from", "killed by"]
    assert killed.startswith("| a third") and "test_half.py::test_half_of_4_is_2 |" in killed
    assert survived.startswith("| the same") and "SURVIVED" in survived
    assert count == "1 of 2 mutants were killed."
    # The repository is as it was.
    assert {path: path.read_text() for path in small.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("old", "n"), [("/ 4", 0), ("x", 2)])
def test_a_stale_mutant_is_named(plant, third, small, old, n):
    stale = replace(third, name="gone", old=old)
    with pytest.raises(ValueError, match=f"'gone' replaces what udl_lab/half.py has {n} times"):
        plant.run([third, stale], small)


def test_a_test_that_fails_without_a_mutant_kills_none(plant, third, small):
    (small / "udl_lab/half.py").write_text("def half(x):\n    return x / 2 + 1\n")
    with pytest.raises(RuntimeError, match=r"test_half_of_4_is_2 fails without any mutant"):
        plant.run([third], small)


def test_tests_that_cannot_run_kill_none(plant, third, small):
    unfinished = replace(third, new="/ (")  # a syntax error
    with pytest.raises(RuntimeError, match=r"could not run tests/test_half\.py"):
        plant.run([unfinished], small)

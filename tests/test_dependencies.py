"""pyproject.toml (ranges), environment.yml (conda) and constraints.txt (exact) say the same."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch"}


def ranges() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {r.name: r for r in map(Requirement, project["dependencies"])}


def all_ranges() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for group in (project["dependencies"], *extras) for line in group]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_conda_users_get_the_same_dependencies():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    from_pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    listed = [entry for entry in entries if isinstance(entry, str)]
    listed += [entry for entry in from_pip if not entry.startswith("-e")]
    conda = {r.name: r.specifier for r in map(Requirement, listed)}
    python = conda.pop("python")
    conda.pop("pip")
    expected = {CONDA_NAMES.get(name, name): r.specifier for name, r in ranges().items()}
    assert conda == expected
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert str(python) == project["requires-python"]


def test_every_dependency_is_pinned_inside_its_range():
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins().items()}
    for requirement in all_ranges():
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pinned, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pinned[name]), f"{name}=={pinned[name]}"


def test_the_malicious_lightning_uploads_are_excluded():
    lightning = ranges()["lightning"].specifier
    assert not lightning.contains("2.6.2")
    assert not lightning.contains("2.6.3")
    assert pins()["lightning"] == "2.6.6"

"""A study's runs over seeds: reused where they are finished, made where they are missing."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from udl_lab.claims import Claims, Tested, as_dict, read_claims, test_claim
from udl_lab.configuration import EXPERIMENTS, check_arm, compose, studies
from udl_lab.errors import UsageError, nearest
from udl_lab.runs import folder as folders
from udl_lab.runs.folder import RunFolder
from udl_lab.runs.report import terminal

# Where files lie and how a run is shown do not change what it computes.
_IRRELEVANT = ("run_dir", "runs_root", "resume", "logger")


def verify(
    names: Sequence[str], overrides: Sequence[str], only: Sequence[str] | None, dry_run: bool
) -> bool:
    """Test the claims of some studies; whether all of them were shown.

    Raises:
        UsageError: when a study, an arm or an override does not exist.
    """
    for name in names:
        if name not in studies():
            raise UsageError(f"there is no study {name!r}; {nearest(name, studies())}")
    return all([_verify_study(name, overrides, only, dry_run) for name in names])


def _verify_study(
    study: str, overrides: Sequence[str], only: Sequence[str] | None, dry_run: bool
) -> bool:
    claims = _choose(study, read_claims(EXPERIMENTS / study / "claims.yaml"), only)
    wanted = {
        (arm, seed): cfg
        for arm, n_seeds in claims.arms().items()
        for seed, cfg in enumerate(_compose(study, arm, n_seeds, [*claims.overrides, *overrides]))
    }
    found = {which: find_finished(cfg) for which, cfg in wanted.items()}
    missing = [which for which, run in found.items() if run is None]
    console = terminal()
    console.print(
        f"[bold]{study}[/bold]: {len(found) - len(missing)} runs reused, {len(missing)} to make"
    )
    if dry_run:
        for arm, seed in missing:
            console.print(f"  {arm}, seed {seed}")
        return True
    for count, (arm, seed) in enumerate(missing, 1):
        console.print(f"  run {count} of {len(missing)}: {arm}, seed {seed}")
        found[arm, seed] = _run(wanted[arm, seed])
    numbers: dict[str, dict[int, dict[str, float]]] = {}
    for (arm, seed), run in found.items():
        rows = folders.read_json(run.results)["rows"]
        numbers.setdefault(arm, {})[seed] = {row["key"]: row["estimate"] for row in rows}
    tested = [test_claim(claim, numbers, range(claims.seeds_of(claim))) for claim in claims.claims]
    console.print(claims_table(study, tested))
    name = "results" if only is None else "results_" + "+".join(sorted(only))
    path = Path(next(iter(wanted.values())).runs_root) / study / f"{name}.json"
    folders.write_text(path, json.dumps(_summary(study, tested, found), indent=1) + "\n")
    console.print(f"written:  {path}", soft_wrap=True, highlight=False)
    return all(t.verdict == "holds" for t in tested)


def _compose(study: str, arm: str, n_seeds: int, overrides: Sequence[str]) -> list[DictConfig]:
    """An arm's configuration for each seed, without a progress bar."""
    experiment = f"experiment={study}/{arm}"
    if "calculation" in compose([experiment]):
        # The command may verify other studies as well, whose runs read data.
        given = [override for override in overrides if not override.startswith("data.root=")]
    else:
        given = ["trainer.enable_progress_bar=false", *overrides]
    return [compose([experiment, f"seed={seed}", "logger=csv", *given]) for seed in range(n_seeds)]


def _choose(study: str, claims: Claims, only: Sequence[str] | None) -> Claims:
    for arm in [*claims.arms(), *(only or ())]:
        check_arm(f"{study}/{arm}")
    if only is None:
        return claims
    chosen = [claim for claim in claims.claims if set(claim.arms()) <= set(only)]
    if not chosen:
        raise UsageError(f"no claim of {study} can be tested with the arms {', '.join(only)} alone")
    return claims.model_copy(update={"claims": chosen})


def _run(cfg: DictConfig) -> RunFolder:
    from udl_lab.runs.execute import execute

    return execute(cfg, quiet=True)


def find_finished(cfg: DictConfig) -> RunFolder | None:
    """A finished run of this very configuration, wherever its data and its log lay."""
    wanted = _relevant(folders.plain(cfg))
    for config in sorted((Path(cfg.runs_root) / cfg.study / cfg.arm).glob("*/config.yaml")):
        run = RunFolder(config.parent)
        if run.status() in ("finished", "diverged") and run.results.is_file():
            if _relevant(folders.read_config(run.config)) == wanted:
                return run
    return None


def _relevant(config: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in _IRRELEVANT}
    for part, key in (("data", "root"), ("trainer", "enable_progress_bar")):
        if part in kept:  # a calculation has neither
            kept[part] = {k: v for k, v in kept[part].items() if k != key}
    return kept


def claims_table(study: str, tested: Iterable[Tested]) -> Table:
    """Verdict · measured · interval over seeds · required · seeds · claim."""
    table = Table(title=f"claims of {study}")
    for column in ("verdict", "measured", "95 % over seeds", "required", "seeds"):
        table.add_column(column, no_wrap=True)
    table.add_column("claim", overflow="fold")
    colours = {"holds": "green", "fails": "red", "undecided": "yellow"}
    for t in tested:
        spread = f"[{t.interval.low:.4f}, {t.interval.high:.4f}]"
        table.add_row(
            f"[{colours[t.verdict]}]{t.verdict}[/]",
            f"{t.interval.estimate:.4f}",
            spread if t.seeds > 1 else "deterministic",
            t.claim.holds,
            str(t.seeds),
            t.claim.says,
        )
    return table


def _summary(
    study: str, tested: Iterable[Tested], found: dict[tuple[str, int], RunFolder]
) -> dict[str, Any]:
    runs = [
        {
            "arm": arm,
            "seed": seed,
            "folder": str(run.path),
            "commit": folders.read_json(run.record)["commit"],
        }
        for (arm, seed), run in found.items()
    ]
    return {"study": study, "claims": [as_dict(t) for t in tested], "runs": runs}

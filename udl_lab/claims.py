"""What a study asserts, and its test over seeds.

A claim is written before the run, in `experiments/<study>/claims.yaml`:

    - name: augmentation_makes_the_outputs_invariant
      says: rotation augmentation halves ρ of the outputs
      value: rotated:rotation/rho/output        # arm:key of a row of results.json
      over: plain:rotation/rho/output           # or minus: …; paired by seed
      holds: "< 0.75"
      source: where the bound comes from

It holds when the *whole* 95 % interval over seeds satisfies the relation. It fails when none of it
does, and is undecided between: then it has not been shown.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import yaml

from udl_lab.errors import UsageError, nearest
from udl_lab.probes.statistics import Interval, over_seeds, paired_difference, paired_ratio

Verdict = Literal["holds", "fails", "undecided"]

Numbers = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Measured numbers: arm → seed → key → estimate."""


class Claim(pydantic.BaseModel):
    """One assertion of a study."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    says: str
    value: str
    minus: str | None = None
    over: str | None = None
    holds: str
    source: str
    seeds: Annotated[int, pydantic.Field(ge=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _one_comparison(self) -> "Claim":
        if self.minus and self.over:
            raise ValueError("give minus or over, not both")
        Relation.parse(self.holds)
        for term in self.terms():
            if ":" not in term:
                raise ValueError(f"{term!r} is no arm:key")
        return self

    def terms(self) -> list[str]:
        """The `arm:key` names that the claim reads."""
        return [term for term in (self.value, self.minus, self.over) if term is not None]

    def arms(self) -> list[str]:
        """The arms that the claim needs."""
        return list(dict.fromkeys(term.partition(":")[0] for term in self.terms()))


class Claims(pydantic.BaseModel):
    """The content of a `claims.yaml`."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    seeds: Annotated[int, pydantic.Field(ge=1)]
    overrides: list[str] = []  # given to every run of the study, e.g. data=mnist
    claims: Annotated[list[Claim], pydantic.Field(min_length=1)]

    def arms(self) -> dict[str, int]:
        """Every arm that some claim needs, and how many seeds of it."""
        needed: dict[str, int] = {}
        for claim in self.claims:
            for arm in claim.arms():
                needed[arm] = max(needed.get(arm, 0), self.seeds_of(claim))
        return needed

    def seeds_of(self, claim: Claim) -> int:
        """How many seeds a claim is tested over: its own number, or the study's."""
        return claim.seeds or self.seeds


@dataclass(frozen=True)
class Relation:
    """What an interval must satisfy: a half-line or a closed range."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "Relation":
        """Read `< x`, `> x`, `in [a, b]` or `= x ± tolerance` (or `+-`).

        Raises:
            ValueError: for anything else.
        """
        number = r"\s*(-?\d*\.?\d+(?:e-?\d+)?)\s*"
        if match := re.fullmatch(rf"<{number}", text):
            return cls(-np.inf, float(match[1]))
        if match := re.fullmatch(rf">{number}", text):
            return cls(float(match[1]), np.inf)
        if match := re.fullmatch(rf"in \[{number},{number}\]", text):
            return cls(float(match[1]), float(match[2]))
        if match := re.fullmatch(rf"={number}(?:±|\+-){number}", text):
            return cls(float(match[1]) - float(match[2]), float(match[1]) + float(match[2]))
        raise ValueError(f"{text!r} is none of '< x', '> x', 'in [a, b]', '= x ± tolerance'")

    def verdict(self, interval: Interval) -> Verdict:
        """Whether all, none or part of an interval satisfies the relation.

        The bounds of a range belong to it; those of `<` and `>` do not.
        """
        if self.low == -np.inf:
            inside, outside = interval.high < self.high, interval.low >= self.high
        elif self.high == np.inf:
            inside, outside = interval.low > self.low, interval.high <= self.low
        else:
            inside = self.low <= interval.low and interval.high <= self.high
            outside = interval.high < self.low or interval.low > self.high
        return "holds" if inside else "fails" if outside else "undecided"


@dataclass(frozen=True)
class Tested:
    """A claim and what came out."""

    claim: Claim
    interval: Interval
    seeds: int
    verdict: Verdict


def read_claims(path: Path) -> Claims:
    """Read a study's claims.

    Raises:
        UsageError: naming the entry that is wrong.
    """
    try:
        return Claims.model_validate(yaml.safe_load(path.read_text()))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}, {place}: {first['msg']}") from error


def test_claim(claim: Claim, numbers: Numbers, seeds: Sequence[int]) -> Tested:
    """Test one claim.

    With one seed the number is taken as exact: that is for runs whose seed changes nothing.

    Raises:
        UsageError: when a run has no row of that name.
    """
    columns = [
        np.array([_look_up(numbers, term, seed) for seed in seeds], float) for term in claim.terms()
    ]
    if claim.minus:
        interval = paired_difference(columns[0], columns[1])
    elif claim.over:
        interval = paired_ratio(columns[0], columns[1])
    else:
        interval = over_seeds(columns[0])
    if len(seeds) == 1:
        interval = Interval(interval.estimate, interval.estimate, interval.estimate)
    return Tested(claim, interval, len(seeds), Relation.parse(claim.holds).verdict(interval))


def _look_up(numbers: Numbers, term: str, seed: int) -> float:
    arm, _, key = term.partition(":")
    measured = numbers[arm][seed]
    if key not in measured:
        raise UsageError(f"arm {arm!r}, seed {seed} measured no {key!r}; {nearest(key, measured)}")
    return measured[key]


def as_dict(tested: Tested) -> dict[str, Any]:
    """A tested claim as plain data."""
    return {
        **tested.claim.model_dump(),
        "estimate": tested.interval.estimate,
        "low": tested.interval.low,
        "high": tested.interval.high,
        "tested_over_seeds": tested.seeds,
        "verdict": tested.verdict,
    }

"""A claim holds only when the whole interval over seeds satisfies it."""

import numpy as np
import pytest
import yaml
from scipy import stats

from udl_lab import claims
from udl_lab.claims import Claim, Relation, read_claims
from udl_lab.errors import UsageError
from udl_lab.probes.statistics import Interval


def claim(**fields) -> Claim:
    defaults = {"name": "n", "says": "s", "value": "a:m", "holds": "< 1", "source": "here"}
    return Claim(**defaults | fields)


def numbers(**arms: list[float]) -> claims.Numbers:
    return {arm: {s: {"m": v} for s, v in enumerate(values)} for arm, values in arms.items()}


@pytest.mark.parametrize(
    ("relation", "low", "high", "verdict"),
    [
        ("< 1", 0.1, 0.9, "holds"),
        ("< 1", 0.1, 1.0, "undecided"),  # a half-line does not own its end
        ("< 1", 1.0, 1.2, "fails"),
        ("> 0", 0.1, 0.9, "holds"),
        ("> 0", -0.1, 0.9, "undecided"),
        ("> 0", -0.2, 0.0, "fails"),
        ("in [0.2, 0.4]", 0.2, 0.4, "holds"),
        ("in [0.2, 0.4]", 0.1, 0.3, "undecided"),
        ("in [0.2, 0.4]", 0.5, 0.6, "fails"),
        ("= 0.5 ± 0.1", 0.41, 0.59, "holds"),
        ("= 0.5 +- 0.1", 0.41, 0.61, "undecided"),
        ("= -1 ± 0", -1, -1, "holds"),
        ("< 1", np.nan, np.nan, "undecided"),
    ],
)
def test_a_verdict_reads_the_whole_interval(relation, low, high, verdict):
    assert (
        Relation.parse(relation).verdict(Interval((low + high) / 2, float(low), float(high)))
        == verdict
    )


@pytest.mark.parametrize("relation", ["about 1", "<", "== 1", "in [1]", "= 1", "≤ 2"])
def test_a_relation_that_cannot_be_read_is_refused(relation):
    with pytest.raises(ValueError, match="none of"):
        Relation.parse(relation)


def test_a_difference_is_paired_by_seed():
    a, b = [0.5, 0.7, 0.9], [0.4, 0.6, 0.8]
    tested = claims.test_claim(claim(minus="b:m", holds="> 0.09"), numbers(a=a, b=b), range(3))
    # Unpaired, the spread of .2 between seeds would swallow the difference of .1.
    assert tested.verdict == "holds"
    assert tested.interval.estimate == pytest.approx(0.1)


def test_a_ratio_is_the_t_interval_of_its_logarithm():
    a, b = np.array([0.5, 0.7, 0.9]), np.array([0.6, 0.6, 0.8])
    tested = claims.test_claim(claim(over="b:m"), numbers(a=list(a), b=list(b)), range(3))
    logs = np.log(a / b)
    half = stats.t.ppf(0.975, 2) * stats.sem(logs)
    assert tested.interval.low == pytest.approx(np.exp(logs.mean() - half))
    assert tested.interval.high == pytest.approx(np.exp(logs.mean() + half))


def test_one_deterministic_run_is_taken_as_exact():
    tested = claims.test_claim(claim(holds="= 0.5 ± 0.001"), numbers(a=[0.5004]), [0])
    assert tested.verdict == "holds"


def test_a_metric_that_was_not_measured_is_named_with_the_nearest():
    with pytest.raises(UsageError, match="no 'n'; choose from: m"):
        claims.test_claim(claim(value="a:n"), numbers(a=[0.5]), [0])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"holds": "about 1"}, "none of"),
        ({"value": "rho"}, "no arm:key"),
        ({"minus": "b:m", "over": "b:m"}, "not both"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_claims_file_that_cannot_be_read_is_refused_by_entry(change, word, tmp_path):
    entry = {"name": "n", "says": "s", "value": "a:m", "holds": "< 1", "source": "x"} | change
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"seeds": 2, "claims": [entry]}))
    with pytest.raises(UsageError, match=word):
        read_claims(path)


def test_a_study_needs_each_arm_as_often_as_its_most_demanding_claim(tmp_path):
    path = tmp_path / "claims.yaml"
    entries = [
        {"name": "1", "says": "s", "value": "a:m", "holds": "< 1", "source": "x", "seeds": 1},
        {"name": "2", "says": "s", "value": "a:m", "minus": "b:m", "holds": "< 1", "source": "x"},
    ]
    path.write_text(yaml.safe_dump({"seeds": 4, "claims": entries}))
    assert read_claims(path).arms() == {"a": 4, "b": 4}

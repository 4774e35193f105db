"""An estimator's many draws beside the exact moments of one, as rows."""

import math
from typing import Annotated

from annotated_types import Ge

from udl_lab.closed_form.moments import Moments, Running
from udl_lab.probes.statistics import Interval
from udl_lab.probes.table import Row, row

# No such number rules out a sample of equal values, which has no standard error: draws that round
# to 0 are equal, however many. Each calculation must refuse settings that make such draws.
ManyDraws = Annotated[int, Ge(100)]

_WIDE = 1.959963984540054  # standard errors of a normal estimate, either way: 95 %


def estimator_rows(site: str, element: str, drawn: Running, truth: Moments) -> list[Row]:
    """Mean and variance of single draws, what they should be, and how far off the mean is.

    Rows `mean`, `mean_exact`, `z`, `variance` and `variance_exact`. `z` is mean less exact mean in
    standard errors; it is N(0, 1) when nothing is wrong. The interval of the variance comes from
    the exact fourth moment, for the sample's own is small whenever its variance is.

    Args:
        site: the estimator.
        element: where it stands.
        drawn: the draws.
        truth: the exact moments of one draw.
    """
    z = (drawn.mean - truth.mean) / drawn.standard_error
    found = {
        "mean": _normal(drawn.mean, drawn.standard_error),
        "mean_exact": Interval.exact(truth.mean),
        "z": _normal(z, 1.0),
        "variance": _normal(drawn.variance, truth.variance_error(drawn.count)),
        "variance_exact": Interval.exact(truth.variance),
    }
    notes = {"z": "in standard errors", "variance": "of one draw"}
    return [
        row(metric, interval, drawn.count, site=site, element=element, note=notes.get(metric, ""))
        for metric, interval in found.items()
    ]


def ratio_rows(
    site: str, element: str, over: tuple[Running, Moments], under: tuple[Running, Moments]
) -> list[Row]:
    """How many draws of the one are worth a draw of the other: the ratio of their variances.

    Rows `variance_ratio`, from independent draws, and `variance_ratio_exact`. The interval is
    normal in the logarithm, with the exact fourth moments.
    """
    (a, exact_a), (b, exact_b) = over, under
    errors = (m.variance_error(d.count) / m.variance for d, m in (over, under))
    ratio, error = a.variance / b.variance, math.hypot(*errors)
    interval = Interval(ratio, ratio * math.exp(-_WIDE * error), ratio * math.exp(_WIDE * error))
    truth = Interval.exact(exact_a.variance / exact_b.variance)
    where = {"site": site, "element": element}
    return [
        row("variance_ratio", interval, min(a.count, b.count), **where),
        row("variance_ratio_exact", truth, 1, **where),
    ]


def _normal(estimate: float, error: float) -> Interval:
    return Interval(estimate, estimate - _WIDE * error, estimate + _WIDE * error)

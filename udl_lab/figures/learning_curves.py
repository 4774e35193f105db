"""Loss and accuracy against the optimiser step."""

import pandas as pd
from matplotlib.figure import Figure

_PANELS = (("loss_nats", "cross-entropy (nats per example)"), ("accuracy", "accuracy"))


def learning_curves(metrics: pd.DataFrame, title: str) -> Figure:
    """Draw every logged loss and accuracy, a line per split.

    Args:
        metrics: a run's `metrics.csv`: the columns `step` and `split/quantity`.
        title: what the run is.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    figure.suptitle(title)
    for axes, (quantity, label) in zip(figure.subplots(1, 2), _PANELS, strict=True):
        for column in sorted(c for c in metrics.columns if c.endswith(quantity)):
            points = metrics[["step", column]].dropna()
            marker = "." if len(points) < 30 else None
            name = column.removesuffix(f"/{quantity}").removesuffix(f"_{quantity}")
            axes.plot(points["step"], points[column], marker=marker, label=name)
        axes.set(xlabel="optimiser step", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure

"""Loss and accuracy against the optimiser step."""

import pandas as pd
from matplotlib.figure import Figure

_PANELS = (
    ("loss_nats", "Loss", "cross-entropy (nats per example)"),
    ("accuracy", "Accuracy", "accuracy (share of examples)"),
)

_NAMES = {
    "train": "training batches, as seen (mean since last point)",
    "val": "validation split",
    "watch/train": "training split, untransformed",
    "watch/clean_train": "training split with its true inputs",
    "watch/test": "test split (watched only, nothing is chosen by it)",
}


def learning_curves(metrics: pd.DataFrame, title: str) -> Figure:
    """Draw every logged loss and accuracy, a line per split.

    Args:
        metrics: a run's `metrics.csv`: the columns `step` and `split/quantity`.
        title: what the run is.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    figure.suptitle(title)
    drawn = {}  # a split has one colour in both panels, and one line in the legend
    for axes, (quantity, name, unit) in zip(figure.subplots(1, 2), _PANELS, strict=True):
        for column in sorted(c for c in metrics.columns if c.endswith(quantity)):
            points = metrics[["step", column]].dropna()
            split = column.removesuffix(f"/{quantity}").removesuffix(f"_{quantity}")
            colour = drawn[split].get_color() if split in drawn else f"C{len(drawn)}"
            marker = "." if len(points) < 30 else None
            label = _NAMES.get(split, split)
            (line,) = axes.plot(
                points["step"], points[column], marker=marker, color=colour, label=label
            )
            drawn.setdefault(split, line)
        axes.set(title=name, xlabel="optimiser step", ylabel=unit)
        axes.grid(alpha=0.3)
    if drawn:
        figure.legend(
            handles=list(drawn.values()), loc="outside lower center", ncols=2, fontsize=9,
            frameon=False,
        )  # fmt: skip
    return figure

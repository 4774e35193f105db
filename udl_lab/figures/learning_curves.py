"""Loss and accuracy against the optimiser step."""

import pandas as pd
from matplotlib.figure import Figure

_LOSSES = {
    "loss_nats": "cross-entropy (nats per example)",
    "mae": "mean absolute error",
    "loss": "loss with its penalties",
}
_PANELS = (
    (tuple(_LOSSES), "Loss"),
    (("accuracy",), "Accuracy"),
)

_NAMES = {
    "train": "training batches, as seen (mean since last point)",
    "val": "validation split",
    "watch/train": "training split, untransformed",
    "watch/clean_train": "training split with its true inputs",
    "watch/test": "test split (watched only, nothing is chosen by it)",
}


def learning_curves(metrics: pd.DataFrame, title: str) -> Figure:
    """Draw every logged loss and, where there is one, accuracy, a line per split.

    Args:
        metrics: a run's `metrics.csv`: the columns `step` and `split/quantity`.
        title: what the run is.
    """
    columns = sorted(metrics.columns)
    found_of = {
        name: {c: q for c in columns for q in quantities if _ends_with(c, q)}
        for quantities, name in _PANELS
    }
    shown = [name for name, found in found_of.items() if found] or ["Loss"]
    figure = Figure(figsize=(5.5 * len(shown), 4.4), layout="constrained")
    figure.suptitle(title)
    drawn = {}  # a split has one colour in both panels, and one line in the legend
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        found = found_of[name]
        for column, quantity in found.items():
            points = metrics[["step", column]].dropna()
            split = column.removesuffix(f"/{quantity}").removesuffix(f"_{quantity}")
            colour = drawn[split].get_color() if split in drawn else f"C{len(drawn)}"
            marker = "." if len(points) < 30 else None
            label = _NAMES.get(split, split)
            (line,) = axes.plot(
                points["step"], points[column], marker=marker, color=colour, label=label
            )
            drawn.setdefault(split, line)
        units = [_LOSSES.get(q, "accuracy (share of examples)") for q in found.values()]
        axes.set(
            title=name, xlabel="optimiser step", ylabel=",\n".join(dict.fromkeys(units)) or name
        )
        axes.grid(alpha=0.3)
    if drawn:
        figure.legend(
            handles=list(drawn.values()), loc="outside lower center", ncols=2, fontsize=9,
            frameon=False,
        )  # fmt: skip
    return figure


def _ends_with(column: str, quantity: str) -> bool:
    """Whether a column is `split/quantity` or `watch/split_quantity`."""
    return column.endswith((f"/{quantity}", f"_{quantity}")) and "/" in column

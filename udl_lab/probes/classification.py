"""How often a classifier is right, and how sure it was, on examples it was not trained on."""

import torch
from torch.nn import functional as F

from udl_lab.probes.statistics import Interval, mean, proportion
from udl_lab.probes.subject import Subject, logits
from udl_lab.probes.table import Row, row


class Classification:
    """Accuracy (Wilson interval), cross-entropy in nats (t interval), and two references.

    The references are the accuracy of always naming the commonest class, which a constant predictor
    reaches, and the number of classes that the network ever names.
    """

    def __call__(self, subject: Subject) -> list[Row]:
        """Measure on all the examples."""
        x, y = subject.examples
        outputs = logits(subject.net, x)
        n = len(y)
        correct = int((outputs.argmax(1) == y).sum())
        losses = F.cross_entropy(outputs.double(), y.long(), reduction="none")
        named = float(outputs.argmax(1).unique().numel())
        commonest = int(torch.bincount(y).max())
        return [
            row("accuracy", proportion(correct, n), n),
            row("loss_nats", mean(losses.numpy()), n, note="mean over examples"),
            row("accuracy_of_commonest_class", proportion(commonest, n), n, note="control"),
            row("classes_named", Interval(named, named, named), n, note="exact count"),
        ]

"""The optimiser in the code of Burda et al., which is not Adam as published."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from torch import nn

from udl_lab.ranges import Fraction, PositiveFloat


@final
class Burda2015Adam(torch.optim.Optimizer):
    """Adam as `optimizers.py` of github.com/yburda/iwae has it.

    Three things differ from Kingma & Ba 2015, algorithm 1:

    - second moments start at one, and are bias-corrected as if they had started at zero: the first
      hundreds of steps are short;
    - a step is taken by the moments *before* its own gradient enters them (Theano evaluates all
      updates at the old values), so the first step moves nothing;
    - eps is added to the root of the uncorrected second moment.

    It is made for gradients summed over a batch of 20: for means, eps and the start mean other
    things.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: PositiveFloat = 1e-3,
        betas: Sequence[Fraction] = (0.99, 0.999),
        eps: PositiveFloat = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; weights without a gradient stay, and so do their moments."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"] = torch.zeros_like(weight)
                    state["exp_avg_sq"] = torch.ones_like(weight)
                m, v = state["exp_avg"], state["exp_avg_sq"]
                state["step"] += 1
                t = float(state["step"])
                size = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
                weight.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-size)
                m.lerp_(weight.grad, 1 - beta1)
                v.mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
        return loss

"""`python experiments/mnist_features/pin.py RUN`: put a run's weights where the lab keeps them.

The file is the same, to the byte, for the same weights. Its hash then belongs in
`udl_lab/sample_quality/features.py`, and every number measured with the old one is void.
"""

import hashlib
import sys

from safetensors.torch import save

from udl_lab.configuration import exit_with_message
from udl_lab.errors import UsageError
from udl_lab.runs.reopen import load_run
from udl_lab.sample_quality.features import WEIGHTS


def pin(folder: str) -> None:
    """Write the run's weights and print their hash.

    Raises:
        UsageError: when the run is none of this study.
    """
    run = load_run(folder)
    if (run.config.study, run.config.arm) != ("mnist_features", "classifier"):
        raise UsageError(
            f"{folder} is a run of {run.config.study}/{run.config.arm}; give one of "
            "mnist_features/classifier"
        )
    # The kernels lie channels-last in memory, which the format does not know.
    weights = {name: value.contiguous() for name, value in run.net.state_dict().items()}
    # One entry: the format writes several in any order.
    content = save(weights, {"origin": f"mnist_features/classifier seed {run.config.seed}"})
    WEIGHTS.write_bytes(content)
    print(f"{WEIGHTS}: {len(content):,} bytes")
    print(f'SHA256 = "{hashlib.sha256(content).hexdigest()}"')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    exit_with_message(lambda: pin(sys.argv[1]))

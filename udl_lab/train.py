"""`python -m udl_lab.train`: compose, check, fit, measure, draw; one run folder results."""

from omegaconf import DictConfig

from udl_lab.configuration import command


def main(cfg: DictConfig) -> None:
    """Train the experiment that the configuration describes."""
    from udl_lab.runs.execute import execute  # imports lightning: only now, ten seconds

    execute(cfg)


if __name__ == "__main__":
    command(main)

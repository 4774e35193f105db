"""Plain networks: torch modules that know nothing of training."""

"""Group actions on inputs: rotations, translations, flips, with the interpolation named."""

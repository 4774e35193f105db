"""Measurements of a trained network, each with its controls and intervals."""

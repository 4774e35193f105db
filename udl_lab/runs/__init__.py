"""Runs: composed from YAML, executed, written to a folder and reopened."""

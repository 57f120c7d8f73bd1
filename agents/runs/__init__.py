"""Runs: training from a configuration to a folder, algorithms by name, races."""

"""One YAML a run, shipped in the wheel."""

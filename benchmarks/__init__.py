"""One question of speed or memory per module: python -m benchmarks.NAME."""

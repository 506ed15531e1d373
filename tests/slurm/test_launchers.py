"""The launchers that need no Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from profi.cli.arguments import register

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("launcher", "gpus", "minutes"),
    [("slurm", 1, 240), ("slurm_long", 1, 1440), ("slurm_cpu", None, 60)],
)
def test_every_launcher_composes(launcher: str, gpus: int | None, minutes: int) -> None:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(REPOSITORY / "conf")):
        config = compose("config", [f"hydra/launcher={launcher}"], return_hydra_config=True)
    chosen = config.hydra.launcher
    assert chosen._target_.endswith("SlurmLauncher")
    assert (chosen.gpus_per_node, chosen.timeout_min) == (gpus, minutes)
    # submitit takes every signal for a time-out where less than ten minutes are asked for.
    assert chosen.timeout_min > 10
    assert chosen.additional_parameters.requeue
    assert chosen.max_num_timeout > 0

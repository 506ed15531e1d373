"""The W&B run of a training, which a resumed training goes on with."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from profi.atomic import write_text
from profi.types import UserError

#: In the training's folder: the id of its run.
ID_FILE = "wandb-id"


def open_run(
    accelerator: Accelerator, project: str, work: Path, config: Mapping[str, object]
) -> None:
    """Open the run as a tracker of the accelerator, in the first process.

    Its files are in `work`/wandb; WANDB_MODE=offline keeps them there. Updates that a resumed
    training makes again are told again, and W&B keeps what it was told first.

    Raises:
        UserError: nobody is logged in, or W&B refuses.
    """
    if not accelerator.is_main_process:
        return
    import wandb

    path = work / ID_FILE
    try:
        # `init` would ask for a key on a terminal, and wait for the answer.
        online = wandb.setup().settings.mode == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise UserError(
                f"wandb={project}: nobody is logged in to W&B: `wandb login`, or set "
                "WANDB_MODE=offline"
            )
        run_id = path.read_text().strip() if path.exists() else secrets.token_hex(4)
        accelerator.init_trackers(
            project,
            config=dict(config),
            init_kwargs={"wandb": {"id": run_id, "resume": "allow", "dir": str(work)}},
        )
    except (wandb.Error, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"wandb={project}: {reason} (`wandb login`, or set WANDB_MODE=offline)"
        ) from error
    write_text(path, f"{run_id}\n")

"""Run by two processes for test_processes.py: trainings of the tiny model, whose processes differ.

torchrun --nproc_per_node 2 two_processes.py FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_model import RECIPE, text_to_image
from tiny_training import new_accelerator, run


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location(
        "roots", Path(__file__).parents[1] / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    roots = importlib.util.module_from_spec(spec)
    sys.modules["roots"] = roots
    sys.path.append(str(Path(__file__).parents[1]))
    spec.loader.exec_module(roots)
    unet = roots.make_unet(0, in_channels=4)
    model = text_to_image(roots.make_backbone(), unet, roots.SCHEDULER_CONFIG)
    accelerator = new_accelerator()
    rank = accelerator.process_index
    figures: dict[str, object] = {"processes": accelerator.num_processes}
    logged: list[dict[str, float]] = []

    def keep(name: str, unet: torch.nn.Module) -> None:
        weights = {key: value.contiguous() for key, value in unet.state_dict().items()}
        save_file(weights, folder / f"{name}-{rank}.safetensors")

    # The second process never wants to stop.
    stopped, of, _ = run(
        model,
        folder / "stop",
        accelerator=accelerator,
        stop=lambda step, _: rank == 0 and step == 2,
        on_log=lambda *args: logged.append(args[2]),
    )
    figures["stopped"] = of["steps"]
    keep("stopped", stopped)
    # The second process alone has a sample that is no number: update 2 sees samples 4 to 7.
    kept, _, _ = run(
        model,
        folder / "bad",
        replace(RECIPE, steps=3),
        accelerator,
        poisoned={6},
        stop=lambda step, _: step == 2,
    )
    keep("bad", kept)
    one, _, _ = run(
        model,
        folder / "one",
        replace(RECIPE, steps=3),
        accelerator,
        stop=lambda step, _: step == 1,
    )
    keep("one", one)
    (folder / f"logged-{rank}.json").write_text(json.dumps([figures, logged]))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A run's id knows the code that paints: what an edit of the package changes, and what it does not.

The edits are made in a copy of the package, by processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from profi.harness import provenance
from profi.harness.provenance import code_digest
from profi.store.generations import read_generations

REPOSITORY = Path(__file__).parents[2]
METHODS = ("base", "painta_only", "rasg_only", "profi")

# Loads the model once and forks, so that each edit meets a process that has read no code yet.
# Prints the run ids by edit and method.
IDS = """
import json, os, sys
from pathlib import Path
import profi
from profi.harness.build_data import load_triplets
from profi.harness.runs import Command
from profi.harness.rows import load_rows
from profi.harness.runs import Samples, context_of, methods_of, runs_of
from profi.settings import Config, DataConfig, ModelConfig

package = Path(profi.__file__).parent
assert package == Path(sys.argv[1]) / "profi", package
methods, edits = json.loads(sys.argv[2]), json.loads(sys.argv[3])
config = Config(model=ModelConfig(device="cpu"), data=DataConfig(limit=2), ablations=methods)
rows = load_rows(context_of(config), list(methods_of(config).values()))
samples = Samples(load_triplets(config.data)[0], "images")
found = {}
for edit, (name, old, new) in edits.items():
    path = package / name
    before = path.read_text("utf-8")
    assert before.count(old) == 1, (edit, before.count(old))
    path.write_text(before.replace(old, new), "utf-8")
    there, here = os.pipe()
    if os.fork() == 0:
        try:
            runs = runs_of(Command(config, "line", "text"))
            ids = {run.method.name: run.spec(rows[run.method.name], samples).run_id for run in runs}
            os.write(here, json.dumps(ids).encode())
        finally:
            os._exit(0)
    os.close(here)
    with open(there, "rb") as answer:
        found[edit] = json.loads(answer.read())
    os.wait()
    path.write_text(before, "utf-8")
print(json.dumps(found))
"""

#: (file, what is there, what takes its place).
RASG = "method/rasg.py"
EDITS = {
    "none": (RASG, "import logging\n", "import logging\n"),
    "rasg": (RASG, ".std(dim=1)", ".std(dim=1).mul(2.0)"),
    "none again": (RASG, "import logging\n", "import logging\n"),
    "comment": (RASG, "import logging\n", "# Of warnings.\n\n\nimport logging  # As usual.\n"),
    "docstring": (RASG, '"""g / std(g), [B', '"""G over std(g), [B'),
    "painta": ("method/painta.py", ".clamp(0.0, 1.0)", ".clamp(0.0, 2.0)"),
    "step": ("method/ddim.py", "def ddim_step(", "print()\n\n\ndef ddim_step("),
    "masks": ("data/masks.py", "if triplet.rle is None", "if not triplet.rle"),
    "plan": ("harness/plan.py", "if of_run:", "if not of_run:"),
    "folder of weights": (
        "models/model_folder.py",
        "TIMEOUT_SECONDS = 10.0",
        "TIMEOUT_SECONDS = 11.0",
    ),
    "trace": ("method/trace.py", "import torch\n", "import torch\n\nprint()\n"),
    "loop over parts": ("harness/generate.py", "import math\n", "import math\n\nprint()\n"),
}
#: The methods whose ids an edit changes; no edit that is not here changes any.
CHANGED = {
    "rasg": {"rasg_only", "profi"},
    # RASG's module has the full method, so it counts for both.
    "painta": {"painta_only", "rasg_only", "profi"},
    "step": set(METHODS),
    "masks": set(METHODS),
    "plan": set(METHODS),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package and its settings, with links to the shipped models and pictures."""
    folder = tmp_path / "checkout"
    large = ("shipped", "sprites", "__pycache__")
    shutil.copytree(REPOSITORY / "profi", folder / "profi", ignore=shutil.ignore_patterns(*large))
    shutil.copytree(REPOSITORY / "conf", folder / "conf")
    shutil.copy(REPOSITORY / "run.py", folder)
    for name in ("shipped", "sprites"):
        (folder / "profi" / "mini" / name).symlink_to(REPOSITORY / "profi" / "mini" / name)
    return folder


def python(checkout: Path, *arguments: str) -> str:
    """Standard output of a process whose profi is the copy."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_edit_changes_the_ids_of_the_methods_that_it_is_of(checkout: Path) -> None:
    arguments = (str(checkout), json.dumps(METHODS), json.dumps(EDITS))
    found = json.loads(python(checkout, "-c", IDS, *arguments))
    assert found.keys() == EDITS.keys()
    usual = found["none"]
    assert len(set(usual.values())) == len(METHODS)
    changed = {
        edit: {name for name in METHODS if ids[name] != usual[name]} for edit, ids in found.items()
    }
    assert {edit: names for edit, names in changed.items() if names} == CHANGED
    # Two different edits are two different runs.
    assert len({ids["profi"] for ids in found.values()}) == 1 + len(CHANGED)


def test_an_edited_method_paints_a_run_of_its_own(checkout: Path) -> None:
    command = ["run.py", "ablation=rasg_only", "stage=generate", "data.limit=1", "model.device=cpu"]
    command += ["sampling.num_inference_steps=2", "model.long_side=64", "out=runs"]
    path = checkout / "profi" / RASG
    before = path.read_text("utf-8")
    path.write_text(before.replace(".std(dim=1)", ".std(dim=1).mul(2.0)"), "utf-8")
    python(checkout, *command)
    path.write_text(before, "utf-8")
    python(checkout, *command)
    records = [json.loads(path.read_text()) for path in checkout.glob("runs/*/run.json")]
    assert len(records) == 2
    one, other = (record["pixels"] for record in records)
    assert one["method"].pop("code") != other["method"].pop("code")
    assert one == other
    folders = checkout.glob("runs/*/generations")
    assert len({next(iter(read_generations(folder))).image for folder in folders}) == 2


def test_a_plugin_s_own_package_counts_and_is_read_once_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its code is: an edit while a command runs is of the next command."""
    package = tmp_path / "counted_plugin"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "method.py").write_text("from counted_plugin import formulas\nimport json\n")
    formulas = package / "formulas.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    digests = []
    for text in ("x = 1\n", "x = 2\n", "x = 1  # One.\n"):
        formulas.write_text(text)
        provenance._read.cache_clear()
        digests.append(code_digest(["counted_plugin.method"]))
        formulas.write_text("x = 3\n")
        assert code_digest(["counted_plugin.method"]) == digests[-1]
    assert digests[0] == digests[2] != digests[1]

"""The W&B report of an experiment, as code: bars per ablation, progress, pictures side by side.

    group="table2 (released, evaluation=released)"
    python scripts/wandb_report.py --group "$group" [--entity E] [--project profi] [--dry-run]

The group is what `logger=wandb` files an experiment's runs under: its name, its reading and, unless
it is `ours`, its evaluation. Saving needs a login (`wandb login`); `--dry-run` prints the
definition and asks no server. What the panels show is what `profi.reports.wandb_log` and
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from profi.catalogue import catalogue
from profi.reports.names import metric_style
from profi.reports.wandb_log import IMAGES, PICTURES

try:
    import wandb_workspaces.expr as expr
    import wandb_workspaces.reports.v2 as wr
except ImportError:
    sys.exit("error: W&B's reports are not installed: pip install -c constraints.txt -e '.[wandb]'")

ABLATION = "ablation"
COUNTS = ("images_missing", "scores_missing", "scores_nan", "quarantined")


def build(entity: str, project: str, group: str, metrics: Sequence[str]) -> wr.Report:
    """The report of the runs of `group`, not yet saved.

    Args:
        entity: the W&B user or team; "" for one's own.
        project: of the runs.
        group: of the runs.
        metrics: names of the summary's scores, a bar plot each.
    """
    runs = wr.Runset(
        entity=entity,
        project=project,
        name=group,
        filters=[expr.Metric("Group") == group],
        groupby=[f"config.{ABLATION}"],
        pinned_columns=[f"summary:{name}" for name in (*metrics, *COUNTS)],
    )
    bars = [
        wr.BarPlot(
            title=metric_style(name).label,
            metrics=[wr.SummaryMetric(name)],
            groupby=wr.Config(ABLATION),
            groupby_aggfunc="mean",
            groupby_rangefunc="stderr",
            layout=wr.Layout(x=8 * (place % 3), y=7 * (place // 3), w=8, h=7),
        )
        for place, name in enumerate(metrics)
    ]
    progress = [
        wr.LinePlot(
            title=f"{stage}: images per second",
            x=f"{stage}/{IMAGES}",
            y=[f"{stage}/images_per_second"],
            layout=wr.Layout(x=12 * place, y=0, w=12, h=7),
        )
        for place, stage in enumerate(("paint", "score"))
    ]
    broad = wr.Layout(x=0, y=0, w=24, h=14)
    return wr.Report(
        entity=entity,
        project=project,
        title=group,
        description="A run per model x ablation x seed; bars are means over seeds.",
        width="fluid",
        blocks=[
            wr.H2("Scores"),
            wr.P(
                "Means over seeds with standard errors. The intervals of the paper's kind, paired "
                "differences and tests are in the HTML report of `stage=report`."
            ),
            wr.PanelGrid(runsets=[runs], panels=bars),
            wr.H2("Pictures"),
            wr.P("The same triplets of every run."),
            wr.PanelGrid(
                runsets=[runs],
                panels=[wr.WeavePanelSummaryTable(table_name=PICTURES, layout=broad)],
            ),
            wr.H2("Progress"),
            wr.PanelGrid(runsets=[runs], panels=progress),
            wr.H2("Settings that differ"),
            wr.PanelGrid(runsets=[runs], panels=[wr.RunComparer(diff_only="split", layout=broad)]),
        ],
    )


def main() -> None:
    """Build and save, or print."""
    parser = argparse.ArgumentParser(description="save the W&B report of an experiment")
    parser.add_argument("--group", required=True)
    parser.add_argument("--entity", default="")
    parser.add_argument("--project", default="profi")
    parser.add_argument("--metrics", nargs="+", default=list(catalogue.metrics.names()))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    report = build(options.entity, options.project, options.group, options.metrics)
    if options.dry_run:
        from rich import print as print_pretty

        print_pretty(report)
        return
    import wandb

    if not wandb.login(prompt=False, verify=False):
        sys.exit("error: nobody is logged in to W&B: `wandb login`, or --dry-run")
    report.save()
    print(report.url)


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Table 2 on a Slurm cluster: painted as one array, scored as one array, then one table. Needs the
# extra `slurm`. Given again after whatever went wrong, it does what is missing.
#   QUEUE="hydra/launcher=slurm hydra.launcher.partition=gpu" SHARDS=8 scripts/cluster/table2.sh \
#       model=dreamshaper8 data=coco2017 metric=paper reading=released evaluation=released
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
read -ra queue <<<"${QUEUE:-hydra/launcher=slurm}"
shards=$(seq -s, -f "%g/${SHARDS:-4}" "${SHARDS:-4}")
seeds=${SEEDS:-0,1,2,3,4}
rows=${ROWS:-base,painta_only,rasg_only,profi}

for stage in generate score; do
    "$python" run.py -m "${queue[@]}" "stage=$stage" \
        "ablation=$rows" "seed=$seeds" "shard=$shards" "$@"
done
"$python" run.py stage=report "ablations=[$rows]" "seeds=[$seeds]" name=table2 "$@"

#!/bin/sh
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
# Capture in eight parts that share a folder, then a drift study in eight parts. Submit it again after a failure: finished
# shards and cells are kept.
set -eu
MODEL=${MODEL:-smollm2}
TEXTS=${TEXTS:-gsm-test:1000}
OUT=${OUT:-runs/cluster}
PART=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

transect capture "$MODEL" "$TEXTS" --out "$OUT/store" --shard "$PART"
# a part waits here until the others have captured theirs
until transect info "$OUT/store" --json | grep -q '"unfinished": \[\]'; do sleep 20; done
transect drift "$OUT/store" --out "$OUT/drift" --shard "$PART" --workers 8

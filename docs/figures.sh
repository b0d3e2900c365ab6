#!/bin/sh
# The figures of docs/ and README, page by page: docs/figures.sh drift manifold neurons match intruders tokens compare depth lens probe dimension claims pairs (all without a word; claims makes pairs too).
# On one core: drift 6 minutes, manifold 10, neurons 5, pairs 30, compare an hour, tokens a day (on an accelerator 5 minutes, with JOBS=4). A second call goes on; OUT says where.
set -eu
OUT=${OUT:-runs/docs}
HERE=$(dirname "$0")/figures
mkdir -p "$HERE" "$OUT"

take() { # take FOLDER FIGURE=NAME …: figures of a study under the names they have in docs
  from=$1
  shift
  for pair in "$@"; do cp "$from/figures/${pair%%=*}.png" "$HERE/${pair#*=}.png"; done
}

drift() {
  transect demo --out runs/demo
  take runs/demo drift=drift excess=excess pairs=pairs
}

manifold() {
  layers=0,3,6,9,12,15,18,21,24,27,30
  transect capture smollm2 birthdays:400 --sites resid --layers $layers --out "$OUT/smol" --name smol
  transect capture random:smollm2 birthdays:400 --sites resid --layers $layers --out "$OUT/rand" --name rand
  transect manifold "$OUT/smol" --label date --shape circle --control "$OUT/rand" --intervene --out "$OUT/date"
  transect manifold "$OUT/smol" --label date --discover --out "$OUT/shapes"
  transect capture smollm2 months:192 --sites resid --layers $layers --out "$OUT/months" --name smol
  transect manifold "$OUT/months" --label month --token landmark:month --permutations 20 --repeats 1 --steer --at month \
    --out "$OUT/month"
  take "$OUT/date" map=manifold orthonormal=manifold-rigid reuse=manifold-reuse similarity=manifold-similarity \
    scatter=manifold-scatter intervention=intervention
  take "$OUT/month" steering=manifold-steering
}

neurons() {
  transect capture smollm2 gsm-test:30 --out "$OUT/neurons" --sites mlp.act --layers 0-3,15,29
  transect neurons "$OUT/neurons" --sites mlp.2.act --dim 1 --order leaf --out "$OUT/neurons-line"
  transect neurons "$OUT/neurons" --sites mlp.act --dim 2 --out "$OUT/neurons-map"
  take "$OUT/neurons-line" sorted=neurons-order
  take "$OUT/neurons-map" maps=neurons-maps
}

tokens() {
  PRESET=seed TOKENIZER=gpt2 WEIGHTS=0.05 STEPS=1000 BATCH=16 WARMUP=100 PRECISION=bfloat16 JOBS=${JOBS:-1} \
    PLACEMENTS="pre post" NORMS=rmsnorm SEEDS="0 1 2" OUT=$OUT/grid sh "$(dirname "$0")/../examples/token_grid.sh"
  take "$OUT/grid/tokens" similarity=tokens-grid differences=tokens-differences tokens-1-3=tokens-pre tokens-1=tokens-post
  take "$OUT/grid/evolve" change=evolve-change ends=evolve-ends similarity=evolve-similarity
}

compare() {
  OUT=$OUT/reviews sh "$(dirname "$0")/../examples/finetune_reviews.sh"
  take "$OUT/reviews/compare" drift=compare-drift score=compare-score matrices=compare-matrices
  take "$OUT/reviews/weights" energy=compare-energy
}

adapted() { # a LoRA adapter that speaks like presidents, five minutes
  train="--task lm:sotu --steps 40 --batch 8 --max-length 64 --eval-limit 16 --evaluate-every 40"
  [ -f "$OUT/lora/result.json" ] || transect finetune smollm2 $train --method lora --learning-rate 2e-3 --out "$OUT/lora"
}

loud() { # an adapter with intruders, two minutes
  train="--task lm:sotu --method lora --steps 24 --batch 8 --max-length 48 --eval-limit 16 --evaluate-every 24"
  [ -f "$OUT/lora-loud/result.json" ] || transect finetune smollm2 $train --learning-rate 1e-2 --out "$OUT/lora-loud"
}

tuned() { # the same in full, for as many steps as the adapter that is not loud, some minutes
  train="--task lm:sotu --steps 40 --batch 8 --max-length 64 --eval-limit 16 --evaluate-every 40"
  [ -f "$OUT/full/result.json" ] || transect finetune smollm2 $train --method full --learning-rate 1e-4 --out "$OUT/full"
}

decoders() { # three decoders of six blocks on the State of the Union messages, two minutes each
  for run in pre-0 pre-1 peri-0; do
    train="--preset demo --layers 6 --steps 160 --texts sotu --norm-placement ${run%-*} --seed ${run#*-}"
    [ $run = pre-0 ] || train="$train --data $OUT/small/pre-0/data"
    [ -f "$OUT/small/$run/result.json" ] || transect train $train --out "$OUT/small/$run"
  done
}

intruders() {
  loud
  transect adapters "$OUT/lora-loud" --base smollm2 --intruders --texts sotu:10 --other-texts gsm-test:10 --out "$OUT/intruders"
  tuned
  transect adapters "$OUT/full" --base smollm2 --intruders --texts sotu:10 --other-texts gsm-test:10 --out "$OUT/intruders-full"
  take "$OUT/intruders" forgetting=adapters-forgetting
}

match() {
  adapted
  for run in base adapted; do
    model=smollm2
    [ $run = base ] || model=smollm2+$OUT/lora
    transect capture "$model" gsm-test:24 --sites mlp.act --layers 0,15,29 --name $run --out "$OUT/match-$run"
  done
  transect neurons match "$OUT/match-base" "$OUT/match-adapted" --out "$OUT/match"
  take "$OUT/match" twins=neurons-twins
}

claims() {
  for claim in gromov-angular sun-massive sun-curse cheng-dimension viswanathan-loss dong-collapse murphy-cka hewitt-selectivity \
    belrose-tuned lad-stages shortgpt-influence goodfire-steering seed-otexplorer seed-phase3 seed-tokens seed-projector seed-smds; do
    transect reproduce $claim --out "$OUT/claims/$claim"
  done
  take "$OUT/claims/shortgpt-influence" reproduced=claims-shortgpt
  pairs
}

pairs() { # claims of two runs: small decoders trained here, an encoder, an adapter and a full fine-tune
  decoders
  adapted
  loud
  tuned
  small=$OUT/small out=$OUT/claims
  transect reproduce gurnee-universal --model "$small/pre-0" --other "$small/pre-1" --texts brown:100 --out "$out/gurnee"
  transect reproduce kim-peri-ln --model "$small/pre-0" --other "$small/peri-0" --texts brown:32 --out "$out/kim"
  for claim in huh-platonic groger-aristotle; do
    transect reproduce $claim --other minilm --texts brown:120 --out "$out/$claim"
  done
  transect reproduce shuttleworth-intruders --adapter "$OUT/lora-loud" --full "$OUT/full" --out "$out/shuttleworth"
  transect reproduce biderman-forgets --adapter "$OUT/lora" --full "$OUT/full" --other-texts gsm-test:32 \
    --task-texts sotu:32 --out "$out/biderman"
}

depth() {
  transect depth smollm2 --texts gsm-test:24 --judges 16 --longest 32 --random-weights --out "$OUT/depth"
  take "$OUT/depth" damage=depth-damage apart=depth-apart prediction=depth-prediction
}

lens() {
  layers=resid.0,resid.5,resid.10,resid.15,resid.20,resid.25,resid.30
  [ -d "$OUT/depth/stores/smollm2" ] || depth
  transect lens "$OUT/depth/stores/smollm2" --sites $layers --judges 12 --longest 48 --random-weights --out "$OUT/lens"
  take "$OUT/lens" logit=lens-logit tuned=lens-tuned
}

probe() {
  layers=resid.0,resid.5,resid.10,resid.15,resid.20,resid.25,resid.30 from=$OUT/depth/stores
  [ -d "$from/smollm2" ] || depth
  transect probe "$from/smollm2" --label position --control "$from/smollm2_random_weights" --sites $layers \
    --out "$OUT/probe"
  take "$OUT/probe" probe=probe selectivity=probe-selectivity
  transect capture smollm2 brown:300 --min-chars 200 --max-length 24 --layers 0,6,12,18,24,30 --out "$OUT/genres" --name smollm2
  transect probe "$OUT/genres" --label genre --classifier logistic --permutations 19 --random-weights --out "$OUT/probe-classes"
  take "$OUT/probe-classes" probe=probe-classes selectivity=probe-classes-selectivity
}

dimension() {
  layers=resid.0
  for k in 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30; do layers=$layers,resid.$k; done
  transect dimension smollm2 --texts gsm-test:60 --sites $layers --random-weights --out "$OUT/dimension"
  take "$OUT/dimension" dimension=dimension loss=dimension-loss
}

for page in ${*:-drift manifold neurons tokens compare match intruders depth lens probe dimension claims}; do "$page"; done

#!/bin/sh
# The figures of docs/ and README, page by page: docs/figures.sh drift manifold neurons match intruders tokens compare depth lens probe dimension claims (all without a word).
# On one core: drift 6 minutes, manifold 10, neurons 5, compare two hours, tokens a day (on an accelerator 5 minutes, with JOBS=4). A second call goes on; OUT says where.
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

intruders() {
  train="--task lm:sotu --method lora --steps 24 --batch 8 --max-length 48 --eval-limit 16 --evaluate-every 24"
  [ -f "$OUT/lora-loud/result.json" ] || transect finetune smollm2 $train --learning-rate 1e-2 --out "$OUT/lora-loud"
  transect adapters "$OUT/lora-loud" --base smollm2 --intruders --texts sotu:10 --other-texts gsm-test:10 --out "$OUT/intruders"
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
}

dimension() {
  layers=resid.0
  for k in 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30; do layers=$layers,resid.$k; done
  transect dimension smollm2 --texts gsm-test:60 --sites $layers --random-weights --out "$OUT/dimension"
  take "$OUT/dimension" dimension=dimension loss=dimension-loss
}

for page in ${*:-drift manifold neurons tokens compare match intruders depth lens probe dimension claims}; do "$page"; done

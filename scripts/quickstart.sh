#!/usr/bin/env bash
# From nothing to a ranking, in a few minutes on two CPU cores: install, train on the built-in phantoms, rank masks
# with known failures, and compare the ranking with Dice.
#
#     ./scripts/quickstart.sh            # results under runs/quickstart
#     ./scripts/quickstart.sh OUT        # ... or under OUT
#
# An active virtual environment is used; else .venv is, and made if missing. Safe to run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

out="${1:-$repo/runs/quickstart}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
cd "$repo"
configs=bundles/segmentation_qc/configs
dataset="$out/data/Dataset901_Phantom3D"

use_environment
install_project ""

# The settings of gnsm demo: what five minutes allow.
say "training on phantoms: 76 heart-like label maps"
"$python" -m monai.bundle run training --config_file "$configs/train.yaml" \
    --data_dir "$out/data" --model_dir "$out/model" --epochs 8 --steps_per_epoch 25 --batch_size 8 --max_voxels 15000 \
    --failures copies --fit#copies 4 --fit#calibration_copies 2 --fit#shapes#steps 300

say "ranking masks with failures of eight kinds, beside their known Dice"
folders="$(printf "'%s'," "$dataset"/predictions/*/)"
"$python" -m monai.bundle run evaluating --config_file "['$configs/train.yaml','$configs/evaluate.yaml']" \
    --model_dir "$out/model" --predictions_dir "[${folders%,}]" --references_dir "$dataset/labelsTs" \
    --output_dir "$out/results"

say "the worst masks by anomaly score, which has not seen their Dice (last column)"
"$python" - "$out/results/ranking.csv" <<'PYTHON'
import csv
import sys

with open(sys.argv[1], newline="") as file:
    rows = list(csv.DictReader(file))
for row in rows[:8]:
    score = f"{float(row['anomaly_score']):.3f}"
    print(f"{row['rank']:>4}  {row['case']:<34} {score:>8}  {row['worst_structure']:<16} Dice {float(row['dice']):.3f}")
PYTHON

say "done"
cat <<TEXT
ranking      $out/results/ranking.csv
summary      $out/results/summary.json
report       $out/results/report.html
TensorBoard  tensorboard --logdir $out/model/tensorboard
TEXT

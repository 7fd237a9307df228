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

use_environment
install_project ""

# Trains and ranks by the bundle's own configs, and ends with the worst masks and where everything is.
"$python" -m gnsm_monai demo --output "$out"

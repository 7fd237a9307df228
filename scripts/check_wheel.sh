#!/usr/bin/env bash
# Build the wheel, install it into a new virtual environment, and run gnsm demo there, away from this repository.
#
#     ./scripts/check_wheel.sh            # with the Python of the active environment
#     PYTHON=python3.13 ./scripts/check_wheel.sh
#
# Takes some minutes, most of them for torch.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

base="$(find_python)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

say "a new virtual environment with $("$base" --version)"
env -u VIRTUAL_ENV "$base" -m venv "$work/env"
say "building the wheel"
rm -rf "$repo/build"   # what an earlier build left there would be in the wheel, deleted modules too
"$work/env/bin/python" -m pip wheel -q --disable-pip-version-check --no-deps -w "$work/dist" "$repo"
say "installing $(basename "$work"/dist/*.whl) and what it needs"
"$work/env/bin/python" -m pip install -q --disable-pip-version-check "$work"/dist/*.whl -c "$repo/constraints.txt"
cd "$work"
unset PYTHONPATH VIRTUAL_ENV
"$work/env/bin/python" -m pip check
"$work/env/bin/gnsm" --version
say "gnsm demo"
"$work/env/bin/gnsm" demo --output "$work/demo"
[[ -f "$work/demo/results/report.html" ]] || fail "no report"
say "the wheel works"

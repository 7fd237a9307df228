#!/usr/bin/env bash
# Install the package with what its tests need, and run them. Arguments go to pytest:
#
#     ./scripts/run_tests.sh                       # everything
#     ./scripts/run_tests.sh -m "not slow" -k paths
#     ./scripts/run_tests.sh -n 0 --pdb            # in one process
#
# The tests of a file stay together in one of at most four processes, with one thread each: small networks gain nothing
# from more. There is one process more than cores, as tests wait for servers and other processes. An active virtual environment is used; else .venv is, and made if missing. Safe to run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
cd "$repo"

use_environment
install_project dev   # all extras: no test is skipped for want of one

say "running the tests"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export SCIPY_ARRAY_API=1   # or scikit-learn skips a check of the detector
cores="$("$python" -c 'import os; print(os.cpu_count() or 1)')"
exec "$python" -m pytest -n $((cores < 4 ? cores + 1 : 4)) --dist loadfile "$@"

#!/usr/bin/env bash
# Install the package with what its tests need, and run them. Arguments go to pytest:
#
#     ./scripts/run_tests.sh                       # everything
#     ./scripts/run_tests.sh -m "not slow" -k paths
#
# An active virtual environment is used; else .venv is, and made if missing. Safe to run again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
cd "$repo"

use_environment
install_project test

say "running the tests"
exec "$python" -m pytest "$@"

#!/usr/bin/env bash
# Make the environment in which tests/slow/test_monailabel.py starts the server of MONAI Label, and print its Python:
#
#     ./scripts/monailabel_environment.sh
#
# Packages that MONAI Label shares with this project (torch, MONAI, SciPy, ...) are those of this project's environment;
# where it needs others, they come before them. Safe to run again. Exit code 4: the packages cannot be installed here.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

use_environment >&2
requirements="$repo/scripts/monailabel_requirements.txt"
environment="$repo/.venv-monailabel"
server_python="$environment/bin/python"
stamp="$environment/.installed"
shared="$("$python" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("site-packages")))')"
key="$(printf '%s\n' "$shared" | cat - "$requirements" | cksum)"

if [[ ! -f "$stamp" || "$(cat "$stamp")" != "$key" ]]; then
    say "installing MONAI Label into $environment (the first time this takes a minute or two)" >&2
    rm -rf "$environment"
    "$python" -m venv --without-pip "$environment"
    "$python" -m pip --python "$server_python" install -q --disable-pip-version-check --no-deps -r "$requirements" >&2 || {
        printf 'error: pip cannot install %s here\n' "$requirements" >&2
        exit 4
    }
    printf '%s\n' "$shared" >"$("$server_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
    "$server_python" -c 'import monailabel.app' >&2
    printf '%s\n' "$key" >"$stamp"
fi
printf '%s\n' "$server_python"

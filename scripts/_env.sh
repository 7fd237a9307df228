# Shared by the scripts beside it, which source it:
#
#     source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
#     use_environment          # sets $python: the active virtual environment's, or that of .venv, made if missing
#     install_project dev      # the package, editable, with an extra ("" for none)
#
# Both are safe to call again. $repo is the root of the repository.

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# Print the first Python that is new enough; $PYTHON goes before all others.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python >= 3.10 found: install one, or name it, as in PYTHON=/path/to/python3.11 $0"
}

use_environment() {
    local base
    if [[ -n "${VIRTUAL_ENV:-}" ]]; then
        [[ -x "$VIRTUAL_ENV/bin/python" ]] || fail "VIRTUAL_ENV is set, but there is no $VIRTUAL_ENV/bin/python"
        say "using the active virtual environment $VIRTUAL_ENV"
    else
        export VIRTUAL_ENV="$repo/.venv"
        # An interrupted creation leaves a folder without pip; that one is made anew.
        if "$VIRTUAL_ENV/bin/python" -m pip --version >/dev/null 2>&1; then
            say "using the virtual environment $VIRTUAL_ENV"
        else
            base="$(find_python)"
            say "making the virtual environment $VIRTUAL_ENV with $("$base" --version)"
            "$base" -m venv --clear "$VIRTUAL_ENV"
        fi
    fi
    python="$VIRTUAL_ENV/bin/python"
    export PATH="$VIRTUAL_ENV/bin:$PATH"
}

# What an installation depends on. It is kept in the environment, so that a second run need not ask the network.
installation_key() {
    { printf '%s\n' "$repo"; cat "$repo/setup.cfg" "$repo/pyproject.toml" "$repo/constraints.txt"; } | cksum
}

install_project() {
    local extra="${1:-}" stamp="$VIRTUAL_ENV/.gnsm_monai-installed" key
    key="$(installation_key)"
    if [[ -f "$stamp" && "$(head -n 1 "$stamp")" == "$key" ]] && grep -qx "extra:$extra" "$stamp" &&
        (cd / && "$python" -c 'import gnsm_monai') >/dev/null 2>&1 && "$python" -m pip check >/dev/null 2>&1; then
        say "gnsm_monai${extra:+[$extra]} is installed already"
        return
    fi
    say "installing gnsm_monai${extra:+[$extra]} and what it needs (the first time this takes some minutes)"
    "$python" -m pip install -q --disable-pip-version-check "pip >= 21.3" # the first with editable pyproject builds
    "$python" -m pip install -q --disable-pip-version-check -e "$repo${extra:+[$extra]}" -c "$repo/constraints.txt"
    [[ -f "$stamp" && "$(head -n 1 "$stamp")" == "$key" ]] || printf '%s\n' "$key" >"$stamp"
    printf 'extra:%s\n' "$extra" >>"$stamp"
}

#!/bin/sh
# Makes a virtual environment with the newest supported Python found: make-venv.sh DIR
set -eu
dir=$1

python=
for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "napari-sam needs Python 3.11 or later and found none: install it, or name it with PYTHON=/path/to/python make ..." >&2
    exit 1
fi

# Debian keeps the part of Python that makes environments in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ -f /etc/debian_version ] && [ "$(id -u)" = 0 ]; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
    else
        echo "$python cannot make virtual environments: install its venv module (on Debian: apt install python3-venv)." >&2
        exit 1
    fi
fi

"$python" -m venv "$dir"

#!/bin/sh
# Installs the official SAM 2 package, which some tests compare ours with: install-sam2.sh PYTHON
# pyproject.toml cannot name it: it must be built without its CUDA extension and with the torch that is already
# there, and brings no wheel. Without it the tests that need it are skipped, so a failure is only a warning.
set -eu
python=$1
version=1.1.0

installed=$("$python" -c 'import importlib.metadata as m; print(m.version("sam2"))' 2>/dev/null || true)
[ "$installed" != "$version" ] || exit 0

SAM2_BUILD_CUDA=0 "$python" -m pip install --disable-pip-version-check --no-build-isolation --no-deps \
    "sam2==$version" ||
    echo "warning: sam2 $version could not be installed; the tests that compare with it will be skipped." >&2

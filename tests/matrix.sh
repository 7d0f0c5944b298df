#!/usr/bin/env bash
# Run the checks of tests/backends with the oldest supported and with the newest versions of Keras,
# OpenTelemetry and wrapt, on Keras's NumPy backend: a few hundred megabytes and five minutes.
#
#     tests/matrix.sh [FOLDER]
#
# The environments are made in FOLDER, by default one that is removed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$folder"' EXIT
passed=0 failed=0

# What pyproject.toml gives as lower bounds; a test holds the two together.
oldest=(
  keras==3.0.0 numpy==1.26.0 scipy==1.11.1 wrapt==1.14.0
  opentelemetry-api==1.35.0 opentelemetry-sdk==1.35.0
  opentelemetry-instrumentation==0.56b0 opentelemetry-semantic-conventions==0.56b0
)
jax_of_then=(jax==0.4.30 jaxlib==0.4.30) # Keras's NumPy backend takes parts of it

run() {
  local name=$1 environment=$folder/$1
  shift
  python3 -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet cloudpickle hatchling pytest pytest-timeout "$@"
  "$environment/bin/python" -m pip install --quiet --no-deps --no-build-isolation .
  echo "== $name"
  "$environment/bin/python" - <<'END'
from importlib.metadata import version
for name in ("keras", "numpy", "opentelemetry-api", "opentelemetry-instrumentation", "wrapt"):
    print(f"{name} {version(name)}", end="  ")
print()
END
  # -P: the otel_drift that is installed there is tested, not the one in this folder.
  if KERAS_BACKEND=numpy "$environment/bin/python" -P -m pytest -c /dev/null \
    --rootdir tests/backends/checks --import-mode=prepend --timeout=90 -p no:cacheprovider -q \
    -W ignore tests/backends/checks; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

run oldest "${oldest[@]}" "${jax_of_then[@]}"
run newest-keras-oldest-telemetry keras jax "${oldest[@]:3}"
run newest keras jax wrapt opentelemetry-sdk opentelemetry-instrumentation \
  opentelemetry-semantic-conventions scipy
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

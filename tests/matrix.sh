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
  "$environment/bin/python" -m pip install --quiet cloudpickle hatchling "$@"
  "$environment/bin/python" -m pip install --quiet --no-deps --no-build-isolation .
  echo "== $name"
  KERAS_BACKEND=numpy "$environment/bin/python" tests/backends/checks > "$environment/results.json" 2> /dev/null
  "$environment/bin/python" - "$environment/results.json" <<'END' && passed=$((passed + 1)) || failed=$((failed + 1))
import json, sys
from importlib.metadata import version
for name in ("keras", "numpy", "opentelemetry-api", "opentelemetry-instrumentation", "wrapt"):
    print(f"{name} {version(name)}", end="  ")
with open(sys.argv[1]) as stream:
    results = json.loads(stream.read().splitlines()[-1])
failed = {name: one["trouble"] for name, one in results.items() if one["trouble"]}
print(f"\n{len(results) - len(failed)} checks passed, {len(failed)} failed")
for name, trouble in failed.items():
    print(f"-- {name}\n{trouble}")
sys.exit(bool(failed) or not results)
END
}

run oldest "${oldest[@]}" "${jax_of_then[@]}"
run newest-keras-oldest-telemetry keras jax "${oldest[@]:3}"
run newest keras jax wrapt opentelemetry-sdk opentelemetry-instrumentation \
  opentelemetry-semantic-conventions scipy
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

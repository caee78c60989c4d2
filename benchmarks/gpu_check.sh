#!/bin/sh
# All that needs a CUDA device, in one call: checks, then the speed of the training loop. It ends within ten minutes.
#
#   sh benchmarks/gpu_check.sh [DEVICE] [FOLDER]
#
# DEVICE is cuda (cpu tries the script out), FOLDER takes what comes out: gpu.md, a section for docs/results.md, and
# training_loop.json. Needs Python with torch and numpy, no network, and no installation of this package. PYTHON names
# the interpreter. WHEELS names a folder of wheels (scikit-learn, Ray, ...) to use besides; they go into FOLDER.
set -u
cd "$(dirname "$0")/.." || exit 2
device=${1:-cuda}
folder=${2:-gpu-check}
python=${PYTHON:-python3}
mkdir -p "$folder" || exit 2
folder=$(cd "$folder" && pwd)
export PYTHONPATH="$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$folder/site" "$WHEELS"/*.whl || exit 2
    export PYTHONPATH="$PYTHONPATH:$folder/site"
fi

steps=""
[ "$device" = cpu ] || steps="--steps 200"
failed=0
"$python" -W ignore benchmarks/gpu_check.py --device "$device" >"$folder/checks.md" || failed=1
# shellcheck disable=SC2086 # two words or none
"$python" -W ignore benchmarks/training_loop.py --device "$device" --rounds 9 $steps \
    --json "$folder/training_loop.json" >"$folder/speed.md" || failed=1
{
    printf '## `sh benchmarks/gpu_check.sh %s`\n\n' "$device"
    cat "$folder/checks.md"
    printf '\n### `python benchmarks/training_loop.py --device %s %s`\n\n' "$device" "$steps"
    cat "$folder/speed.md"
} >"$folder/gpu.md"
cat "$folder/gpu.md"
exit $failed

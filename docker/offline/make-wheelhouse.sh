#!/bin/sh
# Fill docker/wheelhouse (not in git) with a wheel of everything that the image installs, using the pip and the pip
# settings of this machine; `docker compose build` then needs no index. The Python here must be of the same minor
# version as the one in the base image. PYTHON names another interpreter that has pip.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
mkdir -p docker/wheelhouse
"$python" -m pip wheel --wheel-dir docker/wheelhouse -c constraints.txt '.[postgres,cmaes]' hatchling
rm -f docker/wheelhouse/tuner-*.whl # the image builds its own from the source
echo 'Made. Add to .env:'
echo '  PIP_NO_INDEX=1'

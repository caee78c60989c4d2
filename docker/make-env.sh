#!/bin/sh
# Write .env beside docker-compose.yml: random passwords, readable by its owner only. Never overwrites one.
set -eu
cd "$(dirname "$0")/.."

if [ -e .env ]; then
    echo "make-env.sh: .env is there already and was left as it is." >&2
    echo "Its passwords are also inside PostgreSQL's volume: to change them, see docs/stack.md, Passwords." >&2
    exit 1
fi

# Hexadecimal: nothing in it needs quoting in a URL, in SQL or in a shell.
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

cores=$(getconf _NPROCESSORS_ONLN)
umask 077
set -C # a file that appeared since the check above is not overwritten either
cat > .env << EOF
# Written by docker/make-env.sh. Secrets: not in git, not in an image.
COMPOSE_PROJECT_NAME=tuner
POSTGRES_PASSWORD=$(secret)
TUNER_DB_PASSWORD=$(secret)
MLFLOW_DB_PASSWORD=$(secret)
RAY_AUTH_TOKEN=$(secret)

# Two Ray workers share this machine's $cores cores.
RAY_WORKERS=2
RAY_WORKER_CPUS=$(((cores + 1) / 2))
EOF
echo "make-env.sh: wrote .env"

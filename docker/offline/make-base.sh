#!/bin/sh
# Make the two images that docker-compose.yml would pull, from Debian's packages, for a machine without a registry:
# tuner-base (Debian 12 with Python 3.11) and tuner-postgres (the same with PostgreSQL 15).
# As root, with debootstrap and a running Docker engine. BASE_MIRROR names another Debian mirror.
set -eu
cd "$(dirname "$0")"
root=$(mktemp -d "${TMPDIR:-/var/tmp}/tuner-base.XXXXXX")
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python-is-python3 \
    bookworm "$root" "${BASE_MIRROR:-http://deb.debian.org/debian}"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
# The machine's own name servers and repositories stay out of the image; Docker provides the name servers.
: > "$root/etc/resolv.conf"
: > "$root/etc/hostname"
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - tuner-base:bookworm

docker build -t tuner-postgres:15 -f postgres.Dockerfile .
echo 'Made. Add to .env:'
echo '  BASE_IMAGE=tuner-base:bookworm'
echo '  POSTGRES_IMAGE=tuner-postgres:15'

#!/bin/bash
# Start this container's part of the Ray cluster: `node.sh head`, `node.sh worker`, `node.sh studies [COMMAND...]`.
set -eu

# Ray's children, and with them the user's code, get no password of a database.
without_secrets=(env -u TUNER_STORAGE -u TUNER_TRACKING)

# A driver needs a Ray node in its own container. This one offers no CPU, so no training is placed here.
join_without_cpus=("${without_secrets[@]}" ray start --address "${TUNER_RAY_ADDRESS:-}" --num-cpus 0 --num-gpus 0
                   --object-store-memory "$RAY_OBJECT_STORE_BYTES")

role=$1
shift
case $role in
    head)
        exec ray start --block --head --port 6379 --include-dashboard false --num-cpus "$RAY_HEAD_CPUS" \
            --object-store-memory "$RAY_OBJECT_STORE_BYTES"
        ;;
    worker)
        # Without --num-cpus Ray takes what it finds: all cores of the machine, or the container's limit.
        exec ray start --block --address "$TUNER_RAY_ADDRESS" ${RAY_WORKER_CPUS:+--num-cpus "$RAY_WORKER_CPUS"} \
            --object-store-memory "$RAY_OBJECT_STORE_BYTES"
        ;;
    studies)
        if [ $# -eq 0 ]; then
            exec "${join_without_cpus[@]}" --block
        fi
        # In a session of its own: Ctrl-C and a stop of the container are for the command, which still needs this node.
        setsid --wait "${join_without_cpus[@]}" > /tmp/ray-node.log 2>&1 || { cat /tmp/ray-node.log >&2; exit 1; }
        # A trap that does nothing: on a signal bash waits for the command, which stops cleanly by itself.
        trap : INT TERM
        code=0
        "$@" || code=$?
        ray stop --force > /dev/null 2>&1 || true
        exit "$code"
        ;;
    *)
        echo "node.sh: the first argument is '$role'; expected head, worker or studies" >&2
        exit 2
        ;;
esac

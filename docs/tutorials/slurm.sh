#!/bin/bash
# A volume to labels in one Slurm job:   sbatch slurm.sh stack.ome.zarr labels.ome.zarr cells3d [--exact ...]
#SBATCH --job-name=cleft
#SBATCH --ntasks=8                # workers, on as many nodes as Slurm likes
#SBATCH --cpus-per-task=4         # processor cores of each
#SBATCH --mem-per-cpu=3G          # 12 GB a worker; --memory below stays under it
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300       # five minutes before the end: hand over to another job
#SBATCH --requeue                 # also after a node has failed
#SBATCH --open-mode=append        # one log for all of it
set -euo pipefail
image=$1 labels=$2 model=$3       # on the file system that all nodes see
# source ~/cleft/bin/activate     # the environment that has cleft[dask], if it isn't active

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK
address=$labels.$SLURM_JOB_ID.json   # where the scheduler can be found
rm -f "$address"
trap 'rm -f "$address"; kill $(jobs -p) 2>/dev/null || true' EXIT

dask scheduler --scheduler-file "$address" --port 0 --no-dashboard &
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 \
  dask worker --scheduler-file "$address" --nthreads 1 --memory-limit 0 --no-dashboard \
  --death-timeout 300 --local-directory "${TMPDIR:-/tmp}" &
until [ -s "$address" ]; do sleep 1; done
scheduler=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$address")

cleft segment "$image" -m "$model" -o "$labels" --memory 8GB --scheduler "$scheduler" "${@:4}" &
work=$!
hand_over() {                     # what is done is kept, and the next job goes on there
  kill "$work" 2>/dev/null || true
  wait "$work" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap hand_over USR1
wait "$work"

#!/usr/bin/env bash
{% for option in options %}
#SBATCH {{ option }}
{% endfor %}
{% for line in setup %}
{{ line }}
{% endfor %}
{% if tasks %}

# Task N does the stage with the Nth key, counted from 0.
keys=(
{% for task in tasks %}
    {{ task.key }} # {{ task.label }}
{% endfor %}
)
{{ command }} "${keys[$SLURM_ARRAY_TASK_ID]}" &
stage=$!

# Shortly before the time is over comes USR1: the stage writes a checkpoint and exits with 130, and the task goes back
# into the queue. At any other end comes TERM, which Slurm sends to the stage itself; this script outlives it.
over= woken=
trap 'over=yes woken=yes; kill -USR1 "$stage" 2>/dev/null' USR1
trap 'woken=yes' TERM
while :; do
    woken= code=0
    wait "$stage" || code=$?
    # A signal ends the waiting, not the stage.
    [ -n "$woken" ] || break
done
{% if requeue %}
if [ "$code" -eq 130 ] && [ -n "$over" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
{% endif %}
exit "$code"
{% else %}

exec {{ command }}
{% endif %}

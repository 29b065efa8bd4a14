#!/bin/sh
# The facility in a container: `run` is its program, `is-ready` its health check; else the program that is named.
set -eu
dir=/facility

case ${1-run} in
run)
  set -- --dir "$dir" --no-broker --no-install --listen 0.0.0.0 --ssh-port 2222 --rest-port 6820 --worker-uid 1000
  if [ ! -e "$dir/gpfs/current" ]; then
    mento facility up "$@"
    mento facility start-beamtime --dir "$dir" --beamtimeId 11010000 --beamline p11 --online --resources dedicated \
      --duration 365-00:00:00
  fi
  exec mento facility up "$@" --foreground
  ;;
is-ready)
  [ -e "$dir/gpfs/current/." ] && scontrol ping | grep -q 'is UP' && mento facility status --dir "$dir" > /dev/null
  ;;
*) exec "$@" ;;
esac

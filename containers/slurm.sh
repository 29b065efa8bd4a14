#!/bin/sh
# The facility in a container: `run` is its program, `is-ready` its health check; else the program that is named.
set -eu
dir=/facility

case ${1-run} in
run)
  set -- --dir "$dir" --no-broker --no-install --listen 0.0.0.0 --ssh-port 2222 --rest-port 6820 --worker-uid 1000
  mento facility up "$@"
  [ -e "$dir/gpfs/current" ] ||
    mento facility start-beamtime --dir "$dir" --beamtimeId "${BEAMTIME:-11010000}" --beamline "${BEAMLINE:-p11}" \
      --online --resources "${RESOURCES:-dedicated}" --duration "${DURATION:-7-00:00:00}"
  exec mento facility up "$@" --foreground
  ;;
is-ready) mento facility status --dir "$dir" > /dev/null && [ -e "$dir/gpfs/current/." ] ;;
*) exec "$@" ;;
esac

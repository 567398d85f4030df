#!/bin/sh
# Makes the namespace when it is missing; waits for a server that is still starting. Reads
# TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and RETENTION (how long closed workflows stay readable).
set -eu

tries=60
until temporal operator cluster health >/dev/null 2>&1; do
  tries=$((tries - 1))
  if [ "$tries" -eq 0 ]; then
    echo "Temporal at $TEMPORAL_ADDRESS is not healthy; look at the log of the service temporal" >&2
    exit 1
  fi
  sleep 1
done

if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
  echo "namespace $TEMPORAL_NAMESPACE exists"
else
  temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi

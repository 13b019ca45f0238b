#!/usr/bin/env bash
# Makes the cluster, the user and the database of the environment's names once, then serves.
set -euo pipefail
data=/var/lib/postgresql/data/cluster

if [ ! -f "$data/PG_VERSION" ]; then
  initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile <(printf '%s' "$POSTGRES_PASSWORD") --auth-host scram-sha-256 >/dev/null
  printf 'host all all all scram-sha-256\n' >>"$data/pg_hba.conf"
  printf 'CREATE DATABASE "%s";\n' "$POSTGRES_DB" | postgres --single -D "$data" postgres >/dev/null
fi
exec postgres -D "$data" -c listen_addresses='*'

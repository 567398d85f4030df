#!/bin/sh
# Run once by the image, on a new data directory: a role for each tenant, which owns its databases
# and nothing else. Later changes to the schemas are the jobs' work, not this script's.
set -eu

psql -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  -v temporal_password="$TEMPORAL_DB_PASSWORD" -v dumont_password="$DUMONT_DB_PASSWORD" <<'SQL'
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE ROLE dumont LOGIN PASSWORD :'dumont_password';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE DATABASE dumont OWNER dumont;
REVOKE CONNECT ON DATABASE temporal, temporal_visibility, dumont FROM PUBLIC;
SQL

#!/bin/sh
# Brings both of Temporal's databases to the schema of this image's server. Running it again changes
# nothing; after an upgrade of the image it applies what is new. Connection: the SQL_* variables.
set -eu

migrate() { # migrate DATABASE SCHEMA
  temporal-sql-tool --db "$1" setup-schema -v 0.0
  temporal-sql-tool --db "$1" update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

migrate temporal temporal
migrate temporal_visibility visibility

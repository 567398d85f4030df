"""Fixtures that every integration test may use."""

from tests.support.postgres import (  # noqa: F401
    _migrated_template,
    database_url,
    empty_database_url,
    own_postgres,
    postgres,
)
from tests.support.temporal import own_temporal_server, temporal_server  # noqa: F401

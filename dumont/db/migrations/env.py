"""Alembic's environment: migrates on the connection that `dumont.db.schema` hands over."""

from alembic import context

from dumont.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()

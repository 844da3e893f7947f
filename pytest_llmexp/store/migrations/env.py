"""Alembic's entry: runs on the connection it is given, inside that connection's transaction.

The version table is our own, so that Alembic of another program in the same file is not disturbed.
"""

from alembic import context

from pytest_llmexp.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()

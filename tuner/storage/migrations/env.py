"""Alembic's entry point: runs the migrations on the connection that :func:`tuner.storage.engine.migrate` passes on."""

from __future__ import annotations

from alembic import context

from tuner.storage.engine import ours
from tuner.storage.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_object=lambda _item, name, kind, _reflected, _other: ours(name, kind),
    transactional_ddl=True,
)
context.run_migrations()

"""The ledger's tables, whose names all begin with ``tuner_``; the migrations create them.

Times are seconds since the epoch, in UTC. JSON is in text columns and keeps the order of its keys.
"""

from __future__ import annotations

import sqlalchemy as sa

PREFIX = "tuner_"
VERSION_TABLE = "tuner_alembic_version"

metadata = sa.MetaData()

studies = sa.Table(
    "tuner_studies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(60), nullable=False, unique=True),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # open, finished, stopped
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("seconds_used", sa.Double, nullable=False, default=0.0),
    sa.Column("revision", sa.Integer, nullable=False, default=0),
)

trials = sa.Table(
    "tuner_trials",
    metadata,
    sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), primary_key=True),
    sa.Column("arm", sa.String(60), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("source", sa.String(10), nullable=False),
    sa.Column("setting", sa.Text, nullable=False),
    sa.Column("coordinates", sa.Text, nullable=False),
    sa.Column("optuna_number", sa.Integer, nullable=True),
)

runs = sa.Table(
    "tuner_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), nullable=False),
    sa.Column("run_id", sa.String(120), nullable=False),
    sa.Column("arm", sa.String(60), nullable=False),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("phase", sa.String(10), nullable=False),
    sa.Column("rung", sa.Integer, nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("horizon", sa.String(40), nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # queued, running, ended
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("losses", sa.Integer, nullable=False, default=0),
    sa.Column("outcome", sa.String(10), nullable=True),
    sa.Column("value", sa.Double, nullable=True),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("traceback", sa.Text, nullable=False, default=""),
    sa.Column("tests", sa.Text, nullable=False, default="{}"),
    sa.Column("device", sa.String(60), nullable=False, default=""),
    sa.Column("torch", sa.String(60), nullable=False, default=""),
    sa.Column("train_seconds", sa.Double, nullable=False, default=0.0),
    sa.Column("eval_seconds", sa.Double, nullable=False, default=0.0),
    sa.Column("started_at", sa.Double, nullable=False, default=0.0),
    sa.Column("finished_at", sa.Double, nullable=False, default=0.0),
    sa.Column("resumed_at", sa.Integer, nullable=False, default=0),
    sa.Column("revision", sa.Integer, nullable=False, default=0),
    sa.UniqueConstraint("study_id", "run_id", name="tuner_runs_once"),
    sa.Index("tuner_runs_by_revision", "study_id", "revision"),
)

measurements = sa.Table(
    "tuner_measurements",
    metadata,
    sa.Column("run", sa.Integer, sa.ForeignKey("tuner_runs.id"), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("train_seconds", sa.Double, nullable=False),
    sa.Column("eval_seconds", sa.Double, nullable=False),
)

leases = sa.Table(
    "tuner_leases",
    metadata,
    sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(40), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("process_started", sa.Double, nullable=False),
    sa.Column("renewed_at", sa.Double, nullable=False),  # by the database's clock
    sa.Column("held", sa.Boolean, nullable=False),
)

events = sa.Table(
    "tuner_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)

mirrors = sa.Table(
    "tuner_mirrors",
    metadata,
    sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), primary_key=True),
    sa.Column("target", sa.String(12), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
)

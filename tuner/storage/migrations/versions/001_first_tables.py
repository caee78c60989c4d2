"""The first tables of the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_studies_and_trials()
    _create_runs_and_measurements()
    _create_leases_events_and_mirrors()
    op.create_index("tuner_runs_by_revision", "tuner_runs", ["study_id", "revision"])


def _create_studies_and_trials() -> None:
    op.create_table(
        "tuner_studies",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(60), nullable=False, unique=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seconds_used", sa.Double, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "tuner_trials",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), primary_key=True),
        sa.Column("arm", sa.String(60), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("source", sa.String(10), nullable=False),
        sa.Column("setting", sa.Text, nullable=False),
        sa.Column("coordinates", sa.Text, nullable=False),
        sa.Column("optuna_number", sa.Integer, nullable=True),
    )


def _create_runs_and_measurements() -> None:
    op.create_table(
        "tuner_runs",
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
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(10), nullable=True),
        sa.Column("value", sa.Double, nullable=True),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text, nullable=False),
        sa.Column("tests", sa.Text, nullable=False),
        sa.Column("device", sa.String(60), nullable=False),
        sa.Column("torch", sa.String(60), nullable=False),
        sa.Column("train_seconds", sa.Double, nullable=False),
        sa.Column("eval_seconds", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.Column("resumed_at", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.UniqueConstraint("study_id", "run_id", name="tuner_runs_once"),
    )
    op.create_table(
        "tuner_measurements",
        sa.Column("run", sa.Integer, sa.ForeignKey("tuner_runs.id"), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("train_seconds", sa.Double, nullable=False),
        sa.Column("eval_seconds", sa.Double, nullable=False),
    )


def _create_leases_events_and_mirrors() -> None:
    op.create_table(
        "tuner_leases",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(40), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.Double, nullable=False),
        sa.Column("renewed_at", sa.Double, nullable=False),
        sa.Column("held", sa.Boolean, nullable=False),
    )
    op.create_table(
        "tuner_events",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_table(
        "tuner_mirrors",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("tuner_studies.id"), primary_key=True),
        sa.Column("target", sa.String(12), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("tuner_mirrors")
    op.drop_table("tuner_events")
    op.drop_table("tuner_leases")
    op.drop_table("tuner_measurements")
    op.drop_table("tuner_runs")
    op.drop_table("tuner_trials")
    op.drop_table("tuner_studies")

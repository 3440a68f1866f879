"""What engines showed on nodes, and what was measured of artifacts' quality: two new tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MIN_APP = "0.1.0"


def upgrade() -> None:
    _create_measurements()
    _create_quality_records()
    for table in ("measurements", "quality_records"):
        _trigger(table, "no_delete", "BEFORE DELETE", "ROW", "ledger_refuse")
        _trigger(table, "no_truncate", "BEFORE TRUNCATE", "STATEMENT", "ledger_refuse")
    _trigger("measurements", "only_close", "BEFORE UPDATE", "ROW", "ledger_only_close")
    _trigger("quality_records", "no_update", "BEFORE UPDATE", "ROW", "ledger_refuse")
    op.execute(
        sa.text(
            "INSERT INTO schema_revisions (revision, min_app, applied) VALUES (:revision, :min_app, now())"
        ).bindparams(revision=revision, min_app=MIN_APP)
    )


def downgrade() -> None:
    op.drop_table("quality_records")
    op.drop_table("measurements")
    op.execute(sa.text("DELETE FROM schema_revisions WHERE revision = :revision").bindparams(revision=revision))


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _big(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _figure(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _create_measurements() -> None:
    op.create_table(
        "measurements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("installation"),
        _text("node"),
        _text("content"),
        _big("memory_bytes", nullable=True),
        _figure("tokens_per_second", nullable=True),
        _figure("first_token_seconds", nullable=True),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("accelerators", JSONB(), nullable=False),
        _moment("started"),
        _moment("ended", nullable=True),
        _text("ended_why", nullable=True),
        _big("epoch"),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.ForeignKeyConstraint(
            ["installation"], ["installations.installation"], name="fk_measurements_installation_installations"
        ),
        sa.CheckConstraint("(ended IS NULL) = (ended_why IS NULL)", name=op.f("ck_measurements_closed_with_a_reason")),
    )
    op.create_index(
        "uq_measurements_open",
        "measurements",
        ["installation", "node", "content"],
        unique=True,
        postgresql_where=sa.text("ended IS NULL"),
    )
    op.create_index("ix_measurements_content", "measurements", ["content"])


def _create_quality_records() -> None:
    op.create_table(
        "quality_records",
        _big("model_id"),
        _text("artifact"),
        _moment("measured"),
        _figure("quality"),
        _figure("divergence"),
        _figure("same_top"),
        _figure("perplexity"),
        _text("base"),
        _figure("base_quality"),
        _text("tool"),
        _text("tool_version"),
        _text("corpus"),
        _big("tokens"),
        _moment("recorded"),
        _big("epoch"),
        sa.PrimaryKeyConstraint("model_id", "artifact", "measured", name="pk_quality_records"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_quality_records_model_id_models"),
    )


def _trigger(table: str, name: str, event: str, level: str, function: str) -> None:
    op.execute(f"CREATE TRIGGER {name} {event} ON {table} FOR EACH {level} EXECUTE FUNCTION {function}()")

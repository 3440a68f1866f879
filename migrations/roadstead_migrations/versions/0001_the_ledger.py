"""The ledger: lineages, incarnations, artifacts, contents, releases, placements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MIN_APP = "0.1.0"

_WRITTEN_ONCE = ("models", "artifacts", "contents", "releases", "release_contents")
_CLOSED_ONCE = ("model_incarnations", "placements")
_NEVER_REMOVED = ("installations", *_WRITTEN_ONCE, *_CLOSED_ONCE)

_REFUSE = """
CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: history is not rewritten', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$
"""

_ONLY_CLOSE = """
CREATE FUNCTION ledger_only_close() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.ended IS NOT NULL THEN
        RAISE EXCEPTION 'row % of % is closed: it is not changed again', OLD.id, TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.ended IS NULL
        OR to_jsonb(NEW) - ARRAY['ended', 'ended_why', 'epoch'] <> to_jsonb(OLD) - ARRAY['ended', 'ended_why', 'epoch']
    THEN
        RAISE EXCEPTION 'row % of % can only be closed', OLD.id, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.epoch < OLD.epoch THEN
        RAISE EXCEPTION 'row % of % was written under epoch %, not overwritten under %',
            OLD.id, TG_TABLE_NAME, OLD.epoch, NEW.epoch USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""

_ONLY_RAISE = """
CREATE FUNCTION ledger_only_raise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch < OLD.epoch OR NEW.installation <> OLD.installation OR NEW.recorded <> OLD.recorded THEN
        RAISE EXCEPTION 'the epoch of installation % is %, it only grows', OLD.installation, OLD.epoch
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    _create_bookkeeping()
    _create_lineages()
    _create_releases()
    _create_placements()
    _guard()
    op.execute(
        sa.text(
            "INSERT INTO schema_revisions (revision, min_app, applied) VALUES (:revision, :min_app, now())"
        ).bindparams(revision=revision, min_app=MIN_APP)
    )


def downgrade() -> None:
    for table in (
        "placements",
        "release_contents",
        "releases",
        "contents",
        "artifacts",
        "model_incarnations",
        "models",
        "installations",
        "schema_revisions",
    ):
        op.drop_table(table)
    for function in ("ledger_refuse", "ledger_only_close", "ledger_only_raise"):
        op.execute(f"DROP FUNCTION {function}()")


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _key() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def _create_bookkeeping() -> None:
    op.create_table(
        "schema_revisions",
        _text("revision"),
        _text("min_app"),
        _moment("applied"),
        sa.PrimaryKeyConstraint("revision", name="pk_schema_revisions"),
    )
    op.create_table(
        "installations",
        _text("installation"),
        _big("epoch"),
        _moment("recorded"),
        sa.PrimaryKeyConstraint("installation", name="pk_installations"),
        sa.CheckConstraint("epoch >= 0", name=op.f("ck_installations_epoch_not_negative")),
    )


def _create_lineages() -> None:
    op.create_table(
        "models",
        _key(),
        _text("installation"),
        _text("namespace"),
        _text("name"),
        _moment("recorded"),
        _big("epoch"),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("installation", "namespace", "name", name="uq_models_installation_namespace_name"),
        sa.ForeignKeyConstraint(
            ["installation"], ["installations.installation"], name="fk_models_installation_installations"
        ),
    )
    op.create_table(
        "model_incarnations",
        _key(),
        _big("model_id"),
        _text("uid"),
        _moment("created"),
        _moment("started"),
        _moment("ended", nullable=True),
        _text("ended_why", nullable=True),
        _big("epoch"),
        sa.PrimaryKeyConstraint("id", name="pk_model_incarnations"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_model_incarnations_model_id_models"),
        sa.CheckConstraint(
            "(ended IS NULL) = (ended_why IS NULL)", name=op.f("ck_model_incarnations_closed_with_a_reason")
        ),
    )
    op.create_index(
        "uq_model_incarnations_open",
        "model_incarnations",
        ["model_id", "uid"],
        unique=True,
        postgresql_where=sa.text("ended IS NULL"),
    )


def _create_releases() -> None:
    op.create_table(
        "artifacts",
        _text("digest"),
        _big("bytes"),
        _text("format"),
        _text("architecture"),
        _text("quantization"),
        _text("licence"),
        _text("origin"),
        sa.Column("facts", JSONB(), nullable=False),
        _moment("recorded"),
        _big("epoch"),
        sa.PrimaryKeyConstraint("digest", name="pk_artifacts"),
        sa.CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name=op.f("ck_artifacts_digest_is_sha256")),
    )
    op.create_table(
        "contents",
        _text("hash"),
        _text("artifact"),
        _text("engine"),
        _text("engine_image"),
        sa.Column("engine_args", JSONB(), nullable=False),
        _text("task"),
        _text("served_name"),
        sa.Column("context_tokens", sa.Integer(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        _moment("recorded"),
        _big("epoch"),
        sa.PrimaryKeyConstraint("hash", name="pk_contents"),
        sa.ForeignKeyConstraint(["artifact"], ["artifacts.digest"], name="fk_contents_artifact_artifacts"),
    )
    op.create_table(
        "releases",
        _big("model_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("digest"),
        _text("uid"),
        _big("generation"),
        _moment("recorded"),
        _big("epoch"),
        sa.PrimaryKeyConstraint("model_id", "number", name="pk_releases"),
        sa.UniqueConstraint("model_id", "digest", name="uq_releases_model_id_digest"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_releases_model_id_models"),
        sa.CheckConstraint("number > 0", name=op.f("ck_releases_number_positive")),
    )
    op.create_table(
        "release_contents",
        _big("model_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        _text("content"),
        _text("variant"),
        _text("source"),
        sa.Column("quality", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "number", "position", name="pk_release_contents"),
        sa.ForeignKeyConstraint(
            ["model_id", "number"],
            ["releases.model_id", "releases.number"],
            name="fk_release_contents_model_id_number_releases",
        ),
        sa.ForeignKeyConstraint(["content"], ["contents.hash"], name="fk_release_contents_content_contents"),
    )


def _create_placements() -> None:
    op.create_table(
        "placements",
        _key(),
        _big("model_id"),
        _text("slot"),
        _text("content"),
        _text("node"),
        sa.Column("replicas", sa.Integer(), nullable=False),
        _big("memory_bytes"),
        _moment("started"),
        _moment("ended", nullable=True),
        _text("ended_why", nullable=True),
        _big("epoch"),
        sa.PrimaryKeyConstraint("id", name="pk_placements"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_placements_model_id_models"),
        sa.CheckConstraint("(ended IS NULL) = (ended_why IS NULL)", name=op.f("ck_placements_closed_with_a_reason")),
    )
    op.create_index(
        "uq_placements_open",
        "placements",
        ["model_id", "slot"],
        unique=True,
        postgresql_where=sa.text("ended IS NULL"),
    )


def _guard() -> None:
    """Whoever writes past the product meets the same rules. (A table's owner can still drop a trigger.)"""
    for function in (_REFUSE, _ONLY_CLOSE, _ONLY_RAISE):
        op.execute(function)
    for table in _NEVER_REMOVED:
        _trigger(table, "no_delete", "BEFORE DELETE", "ROW", "ledger_refuse")
        _trigger(table, "no_truncate", "BEFORE TRUNCATE", "STATEMENT", "ledger_refuse")
    for table in _WRITTEN_ONCE:
        _trigger(table, "no_update", "BEFORE UPDATE", "ROW", "ledger_refuse")
    for table in _CLOSED_ONCE:
        _trigger(table, "only_close", "BEFORE UPDATE", "ROW", "ledger_only_close")
    _trigger("installations", "only_raise", "BEFORE UPDATE", "ROW", "ledger_only_raise")


def _trigger(table: str, name: str, event: str, level: str, function: str) -> None:
    op.execute(f"CREATE TRIGGER {name} {event} ON {table} FOR EACH {level} EXECUTE FUNCTION {function}()")

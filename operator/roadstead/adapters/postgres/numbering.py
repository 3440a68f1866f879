"""A set of contents becomes a release: numbered once within its lineage, found again ever after."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from roadstead.adapters.postgres.fence import Writer, hold_epoch, lineages
from roadstead.adapters.postgres.schema import ArtifactRow, ContentRow, ModelRow, ReleaseContentRow, ReleaseRow
from roadstead.domain.model import Model, ModelKey
from roadstead.domain.release import Content, contents_digest


def number_release(
    session: Session, writer: Writer, *, model: Model, contents: tuple[Content, ...], above: int = 0
) -> int:
    """The number of this set of contents in the model's lineage; the next free one above ``above`` if it had none.

    The lineage's row is locked until the transaction ends, so two callers never get one number for two sets.
    """
    hold_epoch(session, writer)
    lineage = lineages(session, writer, [model.key])[model.key]
    session.execute(select(ModelRow.id).where(ModelRow.id == lineage).with_for_update())
    digest = contents_digest(contents)
    known = session.scalar(select(ReleaseRow.number).where(ReleaseRow.model_id == lineage, ReleaseRow.digest == digest))
    if known is not None:
        return known
    _record(session, writer, contents)
    highest = session.scalar(select(func.max(ReleaseRow.number)).where(ReleaseRow.model_id == lineage))
    number = max(highest or 0, above) + 1
    session.execute(
        insert(ReleaseRow).values(
            model_id=lineage,
            number=number,
            digest=digest,
            uid=model.uid,
            generation=model.generation,
            recorded=writer.now,
            epoch=writer.epoch,
        )
    )
    session.execute(
        insert(ReleaseContentRow),
        [
            {
                "model_id": lineage,
                "number": number,
                "position": position,
                "content": content.hash,
                "variant": content.variant,
                "source": content.source,
                "quality": content.quality,
            }
            for position, content in enumerate(contents)
        ],
    )
    return number


def find_release(session: Session, *, installation: str, model: ModelKey, digest: str) -> int | None:
    """The number that this set of contents has, if it has one: what a lost answer is read back by."""
    return session.scalar(
        select(ReleaseRow.number)
        .join(ModelRow, ModelRow.id == ReleaseRow.model_id)
        .where(
            ModelRow.installation == installation,
            ModelRow.namespace == model.namespace,
            ModelRow.name == model.name,
            ReleaseRow.digest == digest,
        )
    )


def _record(session: Session, writer: Writer, contents: tuple[Content, ...]) -> None:
    """Insert what is new, in the order of its names: two lineages with the same weights then never deadlock."""
    artifacts = {content.artifact.digest: content for content in contents}
    session.execute(
        postgresql.insert(ArtifactRow).on_conflict_do_nothing(),
        [_artifact(artifacts[digest], writer) for digest in sorted(artifacts)],
    )
    rungs = {content.hash: content for content in contents}
    session.execute(
        postgresql.insert(ContentRow).on_conflict_do_nothing(),
        [_content(rungs[digest], writer) for digest in sorted(rungs)],
    )


def _artifact(content: Content, writer: Writer) -> dict[str, Any]:
    artifact = content.artifact
    facts = storable(asdict(artifact.facts))
    return {
        "digest": artifact.digest,
        "bytes": artifact.bytes,
        "format": str(artifact.facts.format),
        "architecture": storable(artifact.facts.architecture),
        "quantization": storable(artifact.facts.quantization),
        "licence": storable(artifact.facts.licence),
        "origin": content.source,
        "facts": facts,
        "recorded": writer.now,
        "epoch": writer.epoch,
    }


def _content(content: Content, writer: Writer) -> dict[str, Any]:
    return {
        "hash": content.hash,
        "artifact": content.artifact.digest,
        "engine": content.engine,
        "engine_image": content.engine_image,
        "engine_args": list(content.engine_args),
        "task": content.task,
        "served_name": content.served_name,
        "context_tokens": content.context_tokens,
        "concurrency": content.concurrency,
        "recorded": writer.now,
        "epoch": writer.epoch,
    }


def storable(value: Any) -> Any:  # noqa: ANN401 - JSON is any of it
    """A header's text as Postgres can hold it: a file may say anything, NUL and lone surrogates included."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode().replace("\x00", "�")
        case dict():
            return {storable(key): storable(each) for key, each in value.items()}
        case list() | tuple():
            return [storable(each) for each in value]
        case _:
            return value

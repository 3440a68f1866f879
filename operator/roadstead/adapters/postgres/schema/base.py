"""What every table shares: one metadata with one naming convention, so that migrations can name what they change."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

Key = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Epoch = Annotated[int, mapped_column(BigInteger)]
"""The leader's epoch under which the row was written; never overwritten under a lower one."""
Bytes = Annotated[int, mapped_column(BigInteger)]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Document = Annotated[dict[str, Any], mapped_column(JSONB)]
Texts = Annotated[list[str], mapped_column(JSONB)]


class Ledger(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text()}

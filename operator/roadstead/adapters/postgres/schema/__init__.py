"""The tables, one a file. Importing this package fills ``Ledger.metadata``."""

from roadstead.adapters.postgres.schema.artifacts import ArtifactRow
from roadstead.adapters.postgres.schema.base import Ledger
from roadstead.adapters.postgres.schema.contents import ContentRow
from roadstead.adapters.postgres.schema.installations import InstallationRow
from roadstead.adapters.postgres.schema.measurements import MeasurementRow
from roadstead.adapters.postgres.schema.model_incarnations import IncarnationRow
from roadstead.adapters.postgres.schema.models import ModelRow
from roadstead.adapters.postgres.schema.placements import PlacementRow
from roadstead.adapters.postgres.schema.quality_records import QualityRecordRow
from roadstead.adapters.postgres.schema.releases import ReleaseContentRow, ReleaseRow
from roadstead.adapters.postgres.schema.schema_revisions import SchemaRevisionRow

__all__ = [
    "ArtifactRow",
    "ContentRow",
    "IncarnationRow",
    "InstallationRow",
    "Ledger",
    "MeasurementRow",
    "ModelRow",
    "PlacementRow",
    "QualityRecordRow",
    "ReleaseContentRow",
    "ReleaseRow",
    "SchemaRevisionRow",
]

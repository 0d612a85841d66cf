"""Jobs on the move: into a file and back, and out of the tables of other queues."""

from pgqueue.transfer.dump import UncertainDrain, export_jobs
from pgqueue.transfer.load import FileError, Loaded, import_jobs
from pgqueue.transfer.others import Other, Taken, inspect_other, take_over
from pgqueue.transfer.sources import SOURCES, Choice, Source

__all__ = [
    "SOURCES",
    "Choice",
    "FileError",
    "Loaded",
    "Other",
    "Source",
    "Taken",
    "UncertainDrain",
    "export_jobs",
    "import_jobs",
    "inspect_other",
    "take_over",
]

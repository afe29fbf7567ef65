"""The versioned store: datasets of question-process-label records as Delta tables."""

from .dataset import Dataset, Store
from .refs import Snapshot
from .view import View

__all__ = ["Dataset", "Snapshot", "Store", "View"]

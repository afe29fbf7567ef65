"""The versioned store: datasets of question-process-label records as Delta tables."""

from .dataset import Dataset
from .refs import Snapshot
from .store import Store
from .view import View

__all__ = ["Dataset", "Snapshot", "Store", "View"]

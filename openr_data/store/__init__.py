"""The versioned store: datasets of question-process-label records as Delta tables."""

from .dataset import Dataset, Store, View
from .refs import Snapshot

__all__ = ["Dataset", "Snapshot", "Store", "View"]

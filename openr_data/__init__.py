"""openr-data."""

from pathlib import Path

# In a checkout the folders beside this one are subpackages: openr_data.labelers is ../labelers.
# A wheel already has them here (pyproject.toml, package-dir), so there is nothing to add.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "labelers").is_dir():
    __path__.append(str(_checkout))

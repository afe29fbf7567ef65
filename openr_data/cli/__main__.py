"""`python -m openr_data.cli`: the command line from a checkout that is not installed."""

from . import run

run()

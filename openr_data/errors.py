"""The tree of all errors that a user can meet.

    OpenRError                    exit code 1
    ├── UsageError                2   wrong option, name or configuration
    │   └── UnknownName           2   a name that is not in a table; offers the near ones
    ├── InputError                2   a file or a row that cannot be read as its format
    ├── MissingDependency         2   an optional package that is not installed
    ├── StoreError                1   an operation on the store failed
    │   ├── NotAStore             2   a folder that is not a store
    │   ├── MissingDataset        2   no dataset of that name
    │   └── MissingRef            2   no snapshot or tag of that name
    ├── PolicyError               1   the model or its server failed
    ├── JobError                  1   a job cannot start or continue
    ├── HubError                  1   the Hugging Face Hub did not do what was asked
    ├── BudgetReached             1   a job has reached one of its limits
    └── Interrupted             130   stopped by the user; the same command resumes

Rules for a message: one sentence that says what was found and what was expected, then the next command.
User mistakes never show a traceback; `OPENR_DEBUG=1` brings it back.
"""

import difflib
from collections.abc import Iterable


class OpenRError(Exception):
    """The root of the tree. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(OpenRError):
    """A wrong option, name or configuration."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not in a table. The message lists the near ones, or all."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names) if names else "none"
        super().__init__(f"No {kind} {name!r} (there are: {listed}).{meant}{hint and ' ' + hint}")
        self.kind, self.name, self.known = kind, name, names

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        return type(self), (self.kind, self.name, self.known)


class InputError(OpenRError):
    """A file or a row that cannot be read as its format."""

    exit_code = 2


class MissingDependency(OpenRError):
    """An optional package that is not installed; the message names the extra that installs it."""

    exit_code = 2


class StoreError(OpenRError):
    """An operation on the store failed: it is not writable, full, damaged, or was changed by another process."""


class NotAStore(StoreError):
    """A folder that is not an openr-data store."""

    exit_code = 2


class MissingDataset(StoreError):
    """The store has no dataset of that name."""

    exit_code = 2


class MissingRef(StoreError):
    """The dataset has no snapshot or tag of that name."""

    exit_code = 2


class PolicyError(OpenRError):
    """The model or its server could not answer a request."""


class PolicyLost(PolicyError):
    """The model or its server is gone: no further request can succeed."""


class JobError(OpenRError):
    """A job cannot start or continue."""


class HubError(OpenRError):
    """The Hugging Face Hub refused, failed or could not be reached; uploaded files stay there."""


class BudgetReached(OpenRError):
    """A job has reached its budget or its target and sends no further request."""


class Interrupted(OpenRError):
    """Stopped by the user; the message holds the command that resumes."""

    exit_code = 130

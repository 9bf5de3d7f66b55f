"""Every error a user can meet, as one small tree.

    StudyError                 the study failed: exit code 1
    ├── TrialError             a trial failed and is charged to its arm
    ├── FencedError            another driver has taken this study over
    └── InputError             what the user gave is wrong: exit code 2
        ├── SpecError          the YAML file or a `--set`
        ├── DataError          a data file, a store, a basin
        ├── StorageError       a bucket that cannot be reached or used; an OSError, too
        └── BundleError        an exported model
    Interrupted                SIGTERM or Ctrl-C: exit code 128 + number of the signal

Messages are one paragraph: what was read (file, key, basin), the rule, the value, the cure.
"""

import signal


class StudyError(Exception):
    """The study could not be carried out."""

    exit_code = 1


class TrialError(StudyError):
    """A trial failed by its own doing (diverged, out of memory): charged to its arm."""


class FencedError(StudyError):
    """Another driver writes this study's event log."""


class InputError(StudyError):
    """What the user gave cannot be used; the message says what to change."""

    exit_code = 2


class SpecError(InputError):
    """The study's YAML file, or a value set on the command line, is not valid."""


class DataError(InputError):
    """A data file, a store or a basin is not valid."""


class StorageError(InputError, OSError):
    """The place of results or data cannot be reached or used.

    An OSError, too: a job that meets with one is not to blame, and goes on later.
    """


class BundleError(InputError):
    """An exported model is not valid."""


class Interrupted(BaseException):
    """Somebody ended the study by a signal. As `KeyboardInterrupt`, no `except Exception` of a
    library stops it on its way out."""

    def __init__(self, number: int):
        """
        Args:
            number: Of the signal.
        """
        super().__init__(
            f"interrupted by {signal.Signals(number).name}; "
            "the same command goes on where the study stopped"
        )
        self.exit_code = 128 + number

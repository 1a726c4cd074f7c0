"""The one error of everything that reads or writes a checkpoint."""

from truncated_weights.truncation.files import telling


class CheckpointError(ValueError):
    """A checkpoint, or a file that claims to be one, cannot be read as it stands.

    The message is one line that a terminal may show, whatever names of the file are in it.
    """

    def __init__(self, what: object) -> None:
        super().__init__(telling.message(what))

"""The one error of everything that reads or writes a checkpoint."""


class CheckpointError(ValueError):
    """A checkpoint, or a file that claims to be one, cannot be read as it stands."""

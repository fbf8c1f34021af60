"""Offline package: trains a network, exports it as an artifact, and measures the artifact's accuracy."""


class TrainingError(Exception):
    """A command that cannot be carried out. The message names the cause and the remedy."""

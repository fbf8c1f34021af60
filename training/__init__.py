"""The offline package: makes examples, trains networks, exports one as an artifact and measures it."""


class TrainingError(Exception):
    """Something asked for that cannot be done; its sentence says what and the way out."""

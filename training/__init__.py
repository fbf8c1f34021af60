"""The offline package: makes examples, trains networks, exports one as an artifact and measures it."""

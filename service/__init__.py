"""The service: answers queries over HTTP with exported artifacts.

This package itself has the entry points, the settings and the errors only. It imports nothing of `training`.
"""

__version__ = "unreleased"  # the newest heading of CHANGELOG.md

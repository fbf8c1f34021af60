"""The service: answers queries over HTTP with exported artifacts.

Here are the entry points, the settings and the errors, and nothing else. It imports nothing of `training`.
"""

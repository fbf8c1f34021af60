"""The statistics of each request, metrics, logs and traces, for the operator.

Nothing here affects the body of a response.
"""

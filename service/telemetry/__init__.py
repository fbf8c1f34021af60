"""What an operator sees: the record of each request, metrics, logs and traces.

Nothing here decides what a request is answered with.
"""

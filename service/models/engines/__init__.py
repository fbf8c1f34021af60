"""The engines that run a model: LiteRT answers requests, the SavedModel is its reference at the start.

An engine knows tensors and characters. It knows no queue, no request and no version number.
"""

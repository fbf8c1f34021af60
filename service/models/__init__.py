"""Model versions: their metadata, the engines that run them, the batcher in front, and the repository of all.

No HTTP, no Flask, no metrics here: packages above observe and translate.
"""

"""The routes, a module for each of ours and a package for each other dialect: parse, infer, answer.

Each is a thin parser in front of rest.inference. No route imports another.
"""

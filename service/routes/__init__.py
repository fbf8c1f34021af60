"""The routes: our own as modules, each other dialect as a package.

Each parses a request, calls rest.inference and returns the response. No route imports another.
"""

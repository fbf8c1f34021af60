"""The OpenAPI document, and the decorator with which each route documents itself.

No route here, and nothing that answers a request.
"""

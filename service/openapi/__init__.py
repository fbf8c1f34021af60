"""The OpenAPI document, built from what each route documents about itself.

No route here, and nothing that answers a request.
"""

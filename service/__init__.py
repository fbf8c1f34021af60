"""The service: answers queries over HTTP by an exported artifact."""

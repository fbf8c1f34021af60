"""The real clients of others, each a script for the environment of requirements.txt: the service's URL in, JSON out."""

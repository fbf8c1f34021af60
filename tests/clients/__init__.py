"""Scripts that use other projects' clients, for the environment of requirements.txt: a URL in, JSON out."""

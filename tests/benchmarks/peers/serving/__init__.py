"""The applications of the peers. They run in the environments of the peers, not in the project's."""

"""What the peers serve. These modules run in the peers' own environments, not in the project's."""

"""The study: what the tutorial asks, answered by trainings. Its results, text and pictures are in this folder."""

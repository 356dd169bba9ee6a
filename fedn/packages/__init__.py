"""Compute packages: the user's code for clients, as a folder with a `fedn.yaml` and as one archive."""

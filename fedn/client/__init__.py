"""The outer tier: runs the user's code beside its data, keeps every update until it is settled."""

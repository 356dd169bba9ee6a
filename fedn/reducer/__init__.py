"""The top tier: plans rounds, merges the combiners' parts, commits to the model trail."""

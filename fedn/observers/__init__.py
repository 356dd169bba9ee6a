"""Where sessions are also told of: experiment trackers, by name in the reducer's settings."""

"""A whole federation of real processes on this machine, and a real task for it."""

"""Shipped for tests: contract suites for plug-in authors, and a federation in one event loop."""

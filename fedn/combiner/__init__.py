"""The middle tier: takes updates from its own clients, folds them, hands up parts."""

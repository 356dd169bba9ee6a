"""Which of the clients that could take part in a round do."""

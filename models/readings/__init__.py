"""What makes answers of a causal network's steps, while they come: the words of a task, and of a stream."""

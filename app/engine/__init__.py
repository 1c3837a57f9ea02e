"""What holds the models and runs them; knows nothing of HTTP bodies."""

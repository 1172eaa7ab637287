"""What is done about a verdict."""

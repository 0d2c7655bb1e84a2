"""What the service does about a fact, one reaction a file."""

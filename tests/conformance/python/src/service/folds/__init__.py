"""What each event does to a row of a view, one a file."""

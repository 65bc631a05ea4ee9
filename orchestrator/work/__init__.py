"""What a worker is asked to do and what it answers: values that every floor above knows."""

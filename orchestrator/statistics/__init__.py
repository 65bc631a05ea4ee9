"""What follows from records alone: means and spread, significance, the ranking, what was spent."""

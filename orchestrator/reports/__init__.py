"""What a study or a comparison found, for people: the ranking, tables, claims, figures."""

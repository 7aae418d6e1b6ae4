"""The grade: a file a part, and one for each thing they share."""

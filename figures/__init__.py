"""The pictures of the report, and the runs they are drawn from."""

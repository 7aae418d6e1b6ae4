"""Speeds, as ratios to something measured in the same run; not part of the tests."""

"""Fault injection: kills, full disks, broken files, divergence, random command lines."""

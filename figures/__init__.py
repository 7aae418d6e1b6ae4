"""The figures of REPORT.md, and the runs they are drawn from."""

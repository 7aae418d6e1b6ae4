"""The program under faults: kills, full disks, broken files, nonsense on the command line."""

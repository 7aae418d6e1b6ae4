"""What all train scripts share: the life of a run, its folder, its flags and its curves."""

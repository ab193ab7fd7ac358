"""What every room may use: errors, files, git, randomness, compute, scratch."""

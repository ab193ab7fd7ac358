"""Search settings on validation data: over a grid (`tuning`), or among DVC experiments (`best`)."""

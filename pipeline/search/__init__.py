"""Search settings on validation data: with Optuna (`tuning`), or among DVC experiments (`best`)."""

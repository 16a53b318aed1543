"""The tuned baseline: a search for settings, chosen on validation, before the run that counts."""

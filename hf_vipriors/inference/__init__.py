"""Finished models at work on folders of new images."""

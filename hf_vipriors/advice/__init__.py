"""Before any training: what these images are, and what to do with them."""

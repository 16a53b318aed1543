"""Between our models and other people's: native checkpoints, model cards, publishing, teachers from anywhere."""

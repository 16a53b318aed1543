"""From our models to what other people load: native checkpoints, model cards, publishing."""

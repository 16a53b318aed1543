"""Strong image classifiers from few images, natively in the Hugging Face ecosystem."""

from . import models as models  # registers our models with transformers' Auto classes

__version__ = "0.1.0"

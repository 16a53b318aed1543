"""Papers that are cited by cards, methods and citations; those of one method stand in its own file."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper whose method was used.

    Attributes:
        title: as it stands on the paper.
        url: of its page on arXiv.
        authors: "First Last and First Last", as BibTeX has it; empty where the card should cite by link alone.
        year: of the first version.

    Example:
        >>> print(Paper("A Title", "https://arxiv.org/abs/2008.00261", "Ada Lovelace and Alan Turing", 2020).bibtex)
        @misc{lovelace2020title,
          title         = {A Title},
          author        = {Ada Lovelace and Alan Turing},
          year          = {2020},
          eprint        = {2008.00261},
          archivePrefix = {arXiv}
        }
    """

    title: str
    url: str
    authors: str = ""
    year: int | None = None

    @property
    def bibtex(self) -> str:
        """The entry for a bibliography; its key is surname, year, and the first longer word of the title."""
        surname = self.authors.split(" and ")[0].split()[-1]
        word = next(word for word in re.findall(r"[a-z]+", self.title.lower()) if len(word) > 2)
        key = f"{surname.lower()}{self.year}{word}"
        rows = {"title": self.title, "author": self.authors, "year": self.year}
        rows |= {"eprint": self.url.rsplit("/", 1)[-1], "archivePrefix": "arXiv"}
        body = ",\n".join(f"  {name:<13} = {{{value}}}" for name, value in rows.items())
        return f"@misc{{{key},\n{body}\n}}"


HARMONIC = (
    Paper(
        "Harmonic Networks with Limited Training Samples",
        "https://arxiv.org/abs/1905.00135",
        "Matej Ulicny and Vladimir A. Krylov and Rozenn Dahyot",
        2019,
    ),
    Paper(
        "Harmonic Convolutional Networks based on Discrete Cosine Transform",
        "https://arxiv.org/abs/2001.06570",
        "Matej Ulicny and Vladimir A. Krylov and Rozenn Dahyot",
        2020,
    ),
)
MIXUP = Paper(
    "mixup: Beyond Empirical Risk Minimization",
    "https://arxiv.org/abs/1710.09412",
    "Hongyi Zhang and Moustapha Cisse and Yann N. Dauphin and David Lopez-Paz",
    2017,
)
CUTMIX = Paper(
    "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    "https://arxiv.org/abs/1905.04899",
    "Sangdoo Yun and Dongyoon Han and Seong Joon Oh and Sanghyuk Chun and Junsuk Choe and Youngjoon Yoo",
    2019,
)
AUTOAUGMENT = Paper(
    "AutoAugment: Learning Augmentation Policies from Data",
    "https://arxiv.org/abs/1805.09501",
    "Ekin D. Cubuk and Barret Zoph and Dandelion Mane and Vijay Vasudevan and Quoc V. Le",
    2018,
)
RANDAUGMENT = Paper(
    "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space",
    "https://arxiv.org/abs/1909.13719",
    "Ekin D. Cubuk and Barret Zoph and Jonathon Shlens and Quoc V. Le",
    2019,
)
VIPRIORS = Paper(
    "Distilling Visual Priors from Self-Supervised Learning",
    "https://arxiv.org/abs/2008.00261",
    "Bingchen Zhao and Xin Wen",
    2020,
)

"""The papers whose methods a run may use, for the cards."""

from __future__ import annotations

from ..hub.card_facts import Paper

VIPRIORS = Paper(
    "Distilling Visual Priors from Self-Supervised Learning",
    "https://arxiv.org/abs/2008.00261",
    "Bingchen Zhao and Xin Wen",
    2020,
)
MOCO_V2 = Paper(
    "Improved Baselines with Momentum Contrastive Learning",
    "https://arxiv.org/abs/2003.04297",
    "Xinlei Chen and Haoqi Fan and Ross Girshick and Kaiming He",
    2020,
)
SIMCLR = Paper(
    "A Simple Framework for Contrastive Learning of Visual Representations",
    "https://arxiv.org/abs/2002.05709",
    "Ting Chen and Simon Kornblith and Mohammad Norouzi and Geoffrey Hinton",
    2020,
)
OVERHAUL = Paper(
    "A Comprehensive Overhaul of Feature Distillation",
    "https://arxiv.org/abs/1904.01866",
    "Byeongho Heo and Jeesoo Kim and Sangdoo Yun and Hyojin Park and Nojun Kwak and Jin Young Choi",
    2019,
)
SEED = Paper(
    "SEED: Self-supervised Distillation for Visual Representation",
    "https://arxiv.org/abs/2101.04731",
    "Zhiyuan Fang and Jianfeng Wang and Lijuan Wang and Lei Zhang and Yezhou Yang and Zicheng Liu",
    2021,
)
DOGO = Paper(
    "Distill on the Go: Online knowledge distillation in self-supervised learning",
    "https://arxiv.org/abs/2104.09866",
    "Prashant Bhat and Elahe Arani and Bahram Zonooz",
    2021,
)
SSKD = Paper(
    "Knowledge Distillation Meets Self-Supervision",
    "https://arxiv.org/abs/2006.07114",
    "Guodong Xu and Ziwei Liu and Xiaoxiao Li and Chen Change Loy",
    2020,
)
FIXMATCH = Paper(
    "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
    "https://arxiv.org/abs/2001.07685",
    "Kihyuk Sohn and David Berthelot and Chun-Liang Li and Zizhao Zhang and Nicholas Carlini and Ekin D. Cubuk and "
    "Alex Kurakin and Han Zhang and Colin Raffel",
    2020,
)
KD = Paper(
    "Distilling the Knowledge in a Neural Network",
    "https://arxiv.org/abs/1503.02531",
    "Geoffrey Hinton and Oriol Vinyals and Jeff Dean",
    2015,
)
FITNETS = Paper(
    "FitNets: Hints for Thin Deep Nets",
    "https://arxiv.org/abs/1412.6550",
    "Adriana Romero and Nicolas Ballas and Samira Ebrahimi Kahou and Antoine Chassang and Carlo Gatta and "
    "Yoshua Bengio",
    2014,
)
CRD = Paper(
    "Contrastive Representation Distillation",
    "https://arxiv.org/abs/1910.10699",
    "Yonglong Tian and Dilip Krishnan and Phillip Isola",
    2019,
)
PAPERS = {
    "moco": [VIPRIORS, MOCO_V2],
    "simclr": [SIMCLR, VIPRIORS],
    "seed": [SEED],
    "dogo": [DOGO],
    "overhaul": [VIPRIORS, OVERHAUL],
    "supervised": [],
    "fixmatch": [VIPRIORS, FIXMATCH],
    "kd": [KD],
    "fitnet": [FITNETS],
    "crd": [CRD],
    "sskd": [SSKD],
}

"""What the Hub checks in the metadata of a README.md: the values it refuses, and those it only warns about.

The real rules live in the Hub alone and change. Here are those that a card written by code can break: unknown
licences, tasks and colours, ids with spaces, and scores (``model-index``) with a part missing. Only this file needs
more than the standard library: that has no YAML.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0
openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
""".split()
TASKS = """
any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
image-segmentation image-text-to-text image-to-3d image-to-image image-to-text image-to-video keypoint-detection
mask-generation multiple-choice object-detection other question-answering reinforcement-learning robotics
sentence-similarity summarization table-question-answering table-to-text tabular-classification tabular-regression
tabular-to-text text-classification text-generation text-ranking text-retrieval text-to-3d text-to-audio text-to-image
text-to-speech text-to-video time-series-forecasting token-classification translation unconditional-image-generation
video-classification video-text-to-text video-to-video visual-document-retrieval visual-question-answering
voice-activity-detection zero-shot-classification zero-shot-image-classification zero-shot-object-detection
""".split()
SDKS = ["gradio", "streamlit", "docker", "static"]
COLOURS = ["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]
FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
HUB_ID = re.compile(r"([\w-]+/)?[\w.-]+")


def check_card(content: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors and warnings about the metadata of a card of a ``kind`` of repository."""
    try:
        data = card_data(content)
    except yaml.YAMLError as error:
        return [f"YAML: {error}"], []
    if not isinstance(data, dict):
        return ['"metadata" must be an object'], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = [f'"{key}" must be an array' for key in ("tags", "datasets", "metrics") if _no_list(data.get(key))]
    errors += _one_of(data, "license", LICENSES)
    if kind == "space":
        return errors + _space_errors(data), []
    errors += _one_of(data, "pipeline_tag", TASKS)
    for key in ("base_model", "datasets"):
        for value in _listed(data.get(key)):
            if not isinstance(value, str) or not HUB_ID.fullmatch(value):
                errors.append(f'"{key}" with value "{value}" is not valid. Use an id from https://hf.co.')
    for index, model in enumerate(_listed(data.get("model-index"))):
        errors += _score_errors(model, f"model-index[{index}]")
    return errors, []


def card_data(content: str) -> Any:
    """The parsed YAML block at the beginning of a card, ``{}`` where there is none.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    block = FRONT_MATTER.match(content)
    return ((yaml.safe_load(block[1]) or {}) if block else {}) or {}


def _space_errors(data: dict[str, Any]) -> list[str]:
    errors = [] if "sdk" in data else ['"sdk" is required']
    errors += _one_of(data, "sdk", SDKS)
    errors += _one_of(data, "colorFrom", COLOURS) + _one_of(data, "colorTo", COLOURS)
    if len(str(data.get("short_description", ""))) > 60:
        errors.append('"short_description" length must be less than or equal to 60 characters long')
    return errors


def _score_errors(model: Any, where: str) -> list[str]:
    if not isinstance(model, dict) or not isinstance(model.get("results"), list):
        return [f'"{where}.results" must be an array']
    errors = [] if isinstance(model.get("name"), str) else [f'"{where}.name" is required']
    for index, result in enumerate(model["results"]):
        at = f"{where}.results[{index}]"
        for part, key in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
            if not isinstance(result.get(part), dict) or not isinstance(result[part].get(key), str):
                errors.append(f'"{at}.{part}.{key}" is required')
            elif (part, key) == ("dataset", "type") and not HUB_ID.fullmatch(result[part][key]):
                errors.append(f'"{at}.{part}.{key}" with value "{result[part][key]}" fails to match the pattern')
        if not result.get("metrics"):
            errors.append(f'"{at}.metrics" is required')
        for number, metric in enumerate(_listed(result.get("metrics"))):
            errors += [f'"{at}.metrics[{number}].{key}" is required' for key in ("type", "value") if key not in metric]
    return errors


def _one_of(data: dict[str, Any], key: str, allowed: list[str]) -> list[str]:
    wrong = [value for value in _listed(data.get(key)) if value not in allowed]
    return [f'"{key}" must be one of [{", ".join(allowed)}]'] if wrong else []


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _no_list(value: Any) -> bool:
    return value is not None and not isinstance(value, list)

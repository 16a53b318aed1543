"""Runs as an earlier version left them: what was filled stands among the arguments, and nothing tells it apart."""

import json

# That version filled these after it had written run.json, or not at all.
NOT_WRITTEN = ("queue_length", "eval_strategy")
# It filled these for every training of phase 1 that makes a student, whether its method reads them or not.
OF_ANY_PRETRAINING = {"mutual_weight": 1.0, "peer_backbone_args": {}}


def as_earlier(folder, **had):
    """Rewrite the ``run.json`` of a run in the earlier form; ``had``: options that it was run with instead."""
    file = folder / "run.json"
    run = json.loads(file.read_text())
    filled = {name: entry["value"] for name, entry in run.pop("resolved", {}).items() if name not in NOT_WRITTEN}
    if run["command"] == "pretrain_student":
        filled = OF_ANY_PRETRAINING | filled
    run["arguments"] |= filled
    for name, value in had.items():
        run["data" if name in run["data"] else "arguments"][name] = value
    file.write_text(json.dumps(run))
    return run

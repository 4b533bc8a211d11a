"""What a user does with the package; run in a process of its own by test_plugin.py."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch

import crumb
from crumb.cli.stream import settings
from crumb.data.sets.registry import find_source, installed_sources, sources
from crumb.methods.registry import find_method, installed_methods, is_method, methods
from crumb.nets.backbones import build_network, find_backbone
from crumb.nets.config import NetworkConfig
from crumb.testing import check_learner

folder = Path(sys.argv[1])

# Nothing is imported for names of ours.
assert find_method("er").name == "er"
assert find_backbone("squeezenet1_0").cut == "features.12"
assert "toybox" in sources()
assert not [name for name in sys.modules if name.startswith("crumb_mini")]

# The method: settings of the command line, a learner, its file, the checks.
config, network, method = settings(["data", "--method", "mini", "--smoothing", "0.25"])
assert (config.method, asdict(method)["smoothing"]) == ("mini", 0.25)
_, _, same = settings(["data", "--method", "crumb_mini.method:Mini", "--smoothing", "0.25"])
assert same == method
learner = crumb.create("mini", backbone="mini_net", smoothing=0.5, device="cpu")
images = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
learner.observe(images, ["a", "b", "a", "b"])
learner.save(folder / "learner.crumb")
again = crumb.load(folder / "learner.crumb", "cpu")
assert type(again) is find_method("mini")
assert again.config.smoothing == 0.5
assert again.predict(images) == learner.predict(images)
check_learner(find_method("mini"), lr=0.01)

# The backbone: random weights by the seed, or its own.
random = [build_network(NetworkConfig("mini_net", weights="random"), seed) for seed in (1, 1, 2)]
first, second, third = (one.front.state_dict()["0.weight"] for one in random)
assert torch.equal(first, second)
assert not torch.equal(first, third)
assert (build_network(NetworkConfig("mini_net")).front.state_dict()["0.weight"] == 1).all()
assert random[0].feature_shape == (8, 4, 4)

# The data set.
assert find_source("mini_set").name == "mini_set"
assert "mini_set" in installed_sources()[0]
assert "mini_set" not in sources()

# Lists: what cannot be loaded is one line that names it.
found, broken = installed_methods()
assert found["mini"] is find_method("mini")
assert "mini" not in methods()
lines = [str(error) for error in broken]
assert len(lines) == 2
assert lines[0].startswith("crumb.methods mini_broken of the package crumb-mini: cannot be loaded")
assert "a_module_that_is_not_installed" in lines[0]
assert "'mini'" in lines[1]
assert not is_method("mini_broken")
print("all of it works")

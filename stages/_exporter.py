"""Set up torch's exporter once, instead of for every graph or in every process.

stages/export.py imports this. `zoo repro` runs it as a program before it forks the stages (`meta` in dvc.yaml), so that
they inherit a warm exporter. It imports nothing of zoo, because each stage imports its own code after the fork.
"""

import functools
import gc
import logging
import warnings

import torch
import tqdm
from torch._export import utils
from torch.onnx._internal.exporter._registration import ONNXRegistry

# By default it parses the source of all five hundred translations, and lists all operators of torch, for every graph:
# two thirds of the time of a small one.
if not hasattr(ONNXRegistry.from_torchlib, "cache_info"):
    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    utils._collect_all_valid_cia_ops_for_namespace = functools.cache(utils._collect_all_valid_cia_ops_for_namespace)
gc.set_threshold(100_000)  # it makes many objects, nearly all of which stay

if __name__ == "__main__":
    torch.set_num_threads(1)  # threads do not survive a fork; the exporter's progress bars would start one, too
    tqdm.tqdm.monitor_interval, interval = 0, tqdm.tqdm.monitor_interval
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch, network = torch.export.Dim("batch"), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(network, (torch.zeros(3, 2),), dynamic_shapes=({0: batch},))
        torch.onnx.export(program, dynamic_shapes=({0: batch},), opset_version=20, verbose=False)
    tqdm.tqdm.monitor_interval = interval

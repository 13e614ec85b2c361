"""The algorithms, one file each. The folder is the registry: `dr_grpo` is `algorithms/dr_grpo.py:DrGRPO`."""

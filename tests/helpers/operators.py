"""Count the operators that code runs, for each of which a GPU launches a kernel."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = {"view", "t", "transpose", "slice", "select", "expand", "unsqueeze", "squeeze", "detach", "split", "permute"}
VIEWS |= {"alias", "_unsafe_view", "split_with_sizes", "as_strided"}


class CountOperators(TorchDispatchMode):
    """Counts operators that compute or copy, for each of which a GPU launches a kernel; views are none."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen[func.overloadpacket.__name__] += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))

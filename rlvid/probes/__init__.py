"""`rlvid probe`: what a reward pays for, before a run is spent on it.

Each block is a file: value, information, groups, tricks, counterfactuals. `subject.py` reads the reward and scores
replies with it, `replies.py` reads the replies, `verdicts.py` holds the thresholds, `result.py` the result as data, and
`render.py` prints it. The function `probe` is in rlvid/api.
"""

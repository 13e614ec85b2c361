"""Named evaluation protocols: what `eval.protocol` can be. `rlvid list protocols` prints them.

base.py         Protocol: prompt text, settings, extraction, denominator; and the default, "rlvid"
extraction.py   from a reply to a letter, in each of the published ways
harness.py      the ways of lmms-eval
published.py    the protocols of SEED-Bench-R1, GRPO-CARE, Video-R1 and lmms-eval
reader.py       find one by name, or read a TOML file
"""

from rlvid.protocols.base import DEFAULT, Protocol
from rlvid.protocols.extraction import EXTRACTIONS, extract
from rlvid.protocols.published import PROTOCOLS
from rlvid.protocols.reader import RECORD, load_protocol, protocol_settings, record, recorded_protocol

__all__ = [
    "DEFAULT",
    "EXTRACTIONS",
    "PROTOCOLS",
    "RECORD",
    "Protocol",
    "extract",
    "load_protocol",
    "protocol_settings",
    "record",
    "recorded_protocol",
]
